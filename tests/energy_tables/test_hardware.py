"""Hardware profiles: the shipped ones are whole; a user's mistakes are named by field, line and what was expected."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import energy_table, hardware_names, load_hardware
from bitsim.energy_tables.citations import DATA
from bitsim.energy_tables.hardware import OPTIONAL, REQUIRED

TEXT = (DATA / "hardware" / "raspberry-pi-5.toml").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
NAMES = [
    "raspberry-pi-4",
    "raspberry-pi-5",
    "i7-13700h",
    "i7-13800h",
    "ryzen-7840u",
    "m2",
    "m2-ultra",
    "agx-orin",
    "epyc-zen4-2core",
    "a100-80gb",
    "h100-sxm",
    "h200",
    "l4",
    "rtx-4090",
    "mi300x",
    "ternary-asic",
]


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def line_of(field: str) -> int:
    return next(number for number, line in enumerate(LINES, start=1) if line.startswith(f"{field} = "))


def with_line(field: str, new: str) -> str:
    return "\n".join(new if line.startswith(f"{field} = ") else line for line in LINES)


def quantity(mid: str, rest: str = "") -> str:
    return f'{{ {rest}mid = {mid}, source = "mine", locator = "here", status = "seen" }}'


def test_the_promised_machines_are_there() -> None:
    assert set(NAMES) <= set(hardware_names())


@pytest.mark.parametrize("name", hardware_names())
def test_a_shipped_machine_is_whole(name: str) -> None:
    profile = load_hardware(name)
    assert profile.name == name
    assert set(REQUIRED) <= set(profile.quantities) <= {*REQUIRED, *OPTIONAL}
    assert all(
        0 < quantity.value.low <= quantity.value.mid <= quantity.value.high for quantity in profile.quantities.values()
    )
    assert profile.value("idle_w").mid <= profile.value("busy_w").mid <= profile.value("peak_w").mid
    assert profile.energy_node in energy_table().nodes


@pytest.mark.parametrize("name", hardware_names())
def test_a_shipped_machine_refers_to_known_memories(name: str) -> None:
    profile, table = load_hardware(name), energy_table()
    for memory in (profile.memory, profile.on_chip_memory):
        assert table.memory(memory, profile.energy_node).energy_j.mid > 0


def test_names_are_found_in_any_case_and_missing_quantities_are_none() -> None:
    profile = load_hardware(" Raspberry-Pi-5 ")
    assert profile.name == "raspberry-pi-5"
    assert profile.get("ternary_ops_per_s") is None
    with pytest.raises(KeyError):
        profile.value("ternary_ops_per_s")


def test_a_near_miss_gets_a_suggestion() -> None:
    assert "did you mean 'raspberry-pi-5'?" in (refusal(lambda: load_hardware("rasberry-pi-5")) or "")


@pytest.mark.parametrize(
    "name", ["", "\0", "gpu\nx", "x" * 5000, "a\0b.toml", "no-such.toml", "x" * 5000 + ".toml", "a\nb.toml"]
)
def test_what_is_no_machine_is_refused_in_one_line(name: str) -> None:
    assert refusal(lambda: load_hardware(name))


def test_a_users_copy_is_read_like_the_shipped_one(tmp_path: Path) -> None:
    assert load_hardware(write(tmp_path, TEXT)) == load_hardware("raspberry-pi-5")


@pytest.mark.parametrize("field", [*REQUIRED, "name", "kind", "memory", "cores", "weights_on_chip"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = write(tmp_path, with_line(field, ""))
    assert refusal(lambda: load_hardware(path)) == f"{path}: {field}: expected this field, it is missing"


@pytest.mark.parametrize("field", OPTIONAL)
def test_an_optional_field_may_be_missing(tmp_path: Path, field: str) -> None:
    assert load_hardware(write(tmp_path, with_line(field, ""))).get(field) is None


@pytest.mark.parametrize(
    ("field", "value", "named", "expected"),
    [
        ("name", "5", "name", "some text, got '5'"),
        ("name", '""', "name", "some text, got nothing"),
        ("name", '"a\\nb"', None, ""),
        ("kind", '"cpo"', "kind", "one of cpu, gpu, asic, got 'cpo'"),
        ("kind", '"c\\npu"', "kind", "one of cpu, gpu, asic, got "),
        ("energy_node", '"3nm"', "energy_node", "one of 45nm, 7nm, got '3nm'"),
        ("cores", "0", "cores", "number >= 1, got '0'"),
        ("cores", "1.5", "cores", "a whole number >= 1, got '1.5'"),
        ("cores", '"many"', "cores", "number >= 1, got 'many'"),
        ("cores", "1" + "0" * 400, "cores", "number"),
        ("cores", "0x1" + "0" * 4000, "cores", "number"),
        ("title", "0x1" + "0" * 4000, "title", "some text"),
        ("weights_on_chip", "1", "weights_on_chip", "true or false, got '1'"),
        ("idle_w", "5.0", "idle_w", "{ mid = NUMBER, source"),
        ("idle_w", quantity("-1"), "idle_w.mid", "a finite number >= 0, got '-1'"),
        ("idle_w", quantity('"two"'), "idle_w.mid", "a finite number >= 0, got 'two'"),
        ("idle_w", quantity("nan"), "idle_w.mid", "a finite number >= 0, got 'nan'"),
        ("idle_w", quantity("inf"), "idle_w.mid", "a finite number >= 0, got 'inf'"),
        ("idle_w", quantity("true"), "idle_w.mid", "a finite number >= 0, got 'True'"),
        (
            "idle_w",
            quantity("2.0", "low = 3.0, "),
            "idle_w.mid",
            "a value between idle_w.low (3) and idle_w.high (2)",
        ),
        (
            "idle_w",
            quantity("2.0", "high = 1.0, "),
            "idle_w.mid",
            "a value between idle_w.low (2) and idle_w.high (1)",
        ),
        (
            "idle_w",
            '{ source = "mine", locator = "x", status = "seen" }',
            "idle_w.mid",
            "a finite number >= 0, got nothing",
        ),
        (
            "idle_w",
            '{ mid = 2.0, source = "", locator = "x", status = "seen" }',
            "source",
            "some text, got nothing",
        ),
        ("idle_w", '{ mid = 2.0, locator = "x", status = "seen" }', "source", "some text, got nothing"),
        (
            "idle_w",
            '{ mid = 2.0, source = "mine", locator = "x", status = "told" }',
            "status",
            "one of seen, secondary",
        ),
        ("bandwidth_bytes_per_s", quantity("0"), "bandwidth_bytes_per_s.mid", "a number above 0, got '0'"),
        (
            "bandwidth_bytes_per_s",
            quantity("1e9", "low = 0, "),
            "bandwidth_bytes_per_s.low",
            "a number above 0, got '0'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, field: str, value: str, named: str | None, expected: str
) -> None:
    path = write(tmp_path, with_line(field, f"{field} = {value}"))
    message = refusal(lambda: load_hardware(path))
    if named is not None:
        assert message is not None
        assert message.startswith(f"{path}:{line_of(field)}: {named}: expected ")
        assert expected in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "bandwith_bytes_per_s = 5",
            "bandwith_bytes_per_s: unknown field; did you mean 'bandwidth_bytes_per_s'?",
        ),
        ("core = 5", "core: unknown field; did you mean 'cores'?"),
        ("zzz = 5", "zzz: unknown field"),
        ('"a\\nb" = 5', "unknown field"),
    ],
)
def test_an_unknown_field_gets_a_suggestion(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, TEXT + line + "\n")
    message = refusal(lambda: load_hardware(path)) or ""
    assert message.startswith(f"{path}:")
    assert expected in message


def test_an_unknown_part_of_a_value_is_refused_and_not_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, with_line("idle_w", f"idle_w = {quantity('2.0', 'hihg = 3.0, ')}"))
    message = refusal(lambda: load_hardware(path)) or ""
    assert message.startswith(f"{path}:{line_of('idle_w')}: ")
    assert "hihg" in message


@pytest.mark.parametrize("field", ["idle_w", "bandwidth_bytes_per_s"])
def test_a_value_written_as_a_section_or_with_dots_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    rest = with_line(field, "")
    section = write(tmp_path, f"{rest}\n[{field}]\nmid = -1\n")
    assert (refusal(lambda: load_hardware(section)) or "").startswith(
        f"{section}:{rest.count(chr(10)) + 2}: {field}.mid: "
    )
    dotted = write(tmp_path, f"{rest}\n{field}.mid = -1\n")
    assert (refusal(lambda: load_hardware(dotted)) or "").startswith(
        f"{dotted}:{rest.count(chr(10)) + 2}: {field}.mid: "
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TEXT[: len(TEXT) // 2].encode(), "expected TOML, got "),
        (TEXT.encode("utf-16"), "expected UTF-8 text, got byte 0xff at offset 0"),
        (b"\x00" * (17 * 1024**2), "at most 16 MiB"),
        (b"", "name: expected this field, it is missing"),
        (("name = " + "[" * 100_000).encode(), "expected TOML, got "),
    ],
    ids=["truncated", "utf-16", "17 MiB", "empty", "deep"],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path, content)
    message = refusal(lambda: load_hardware(path)) or ""
    assert message.startswith(path)
    assert expected in message


def test_a_folder_called_toml_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine.toml"
    folder.mkdir()
    assert (refusal(lambda: load_hardware(str(folder))) or "").startswith(str(folder))


SCALARS = st.one_of(
    st.integers().map(str),
    st.integers(0, 10**500).map(str),
    st.floats().map(repr),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="'"), max_size=9).map(
        lambda text: f"'{text}'"
    ),
    st.sampled_from(["{}", "[]", "1979-05-27", "07:32:00", "{ mid = {} }", '"\\u000a"', "-0.0", "5e-324", "1e308"]),
)
VALUES = SCALARS | st.tuples(SCALARS, SCALARS).map(lambda pair: quantity(pair[0], f"low = {pair[1]}, "))


@pytest.fixture(scope="module")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], str]:
    folder, number = tmp_path_factory.mktemp("profiles"), itertools.count()

    def make(content: bytes) -> str:
        path = folder / f"{next(number)}.toml"
        path.write_bytes(content)
        return str(path)

    return make


@given(content=st.binary() | st.text(st.characters(codec="utf-8")).map(str.encode))
def test_any_content_is_refused_in_one_line(new_file: Callable[[bytes], str], content: bytes) -> None:
    path = new_file(content)
    assert refusal(lambda: load_hardware(path))


@given(line=st.integers(0, len(LINES) - 1), value=VALUES)
def test_any_value_of_any_field_is_read_or_refused_in_one_line(
    new_file: Callable[[bytes], str], line: int, value: str
) -> None:
    field = LINES[line].split(" = ")[0]
    path = new_file(with_line(field, f"{field} = {value}").encode())
    refusal(lambda: load_hardware(path))


@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 200), junk=st.binary(max_size=20))
def test_a_damaged_profile_is_read_or_refused_in_one_line(
    new_file: Callable[[bytes], str], start: int, length: int, junk: bytes
) -> None:
    content = TEXT.encode()
    path = new_file(content[:start] + junk + content[start + length :])
    refusal(lambda: load_hardware(path))
