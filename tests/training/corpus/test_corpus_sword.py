"""Text out of SWORD modules."""

from collections.abc import Callable

import pytest

from bitsim.training.corpus.sword import bible_books, commentary_books, psalm_commentary

Sword = Callable[..., dict[str, bytes]]

RUTH = (
    '<div canonical="true" osisID="Ruth" sID="g1" type="book"/> <milestone n="Ruth" type="x-usfm-h"/> '
    '<title type="main">The Book of Ruth</title> <div sID="i1" type="introduction"/><div sID="g2" type="x-p"/> A note '
    'by a publisher.<div eID="g2" type="x-p"/><div eID="i1" type="introduction"/> '
    '<chapter n="1" osisID="Ruth.1" sID="Ruth.1"/><div sID="g3" type="x-p"/><w lemma="strong:H1">In</w> the days,'
    '<note placement="foot"><reference>1:1 </reference>or, times</note><w>there</w> was a  famine<note>x</note>. She '
    'said, “Don&#8217;t &amp; go.”<div eID="g3" type="x-p"/><div type="x-milestone" subType="x-preverse" sID="pv1"/>'
    '<lg sID="g4"/><l level="1" sID="g5"/>Where you go,<l eID="g5" level="1"/> <l level="2" sID="g6"/>I will go.'
    '<l eID="g6" level="2"/><lg eID="g4"/> <chapter eID="Ruth.1"/> '
    '<div canonical="true" eID="g1" osisID="Ruth" type="book"/><div sID="g7" type="glossary"/>Words.'
)


def test_a_book_of_the_bible(sword: Sword) -> None:
    front = '<div sID="g0" type="front"/><title>Preface</title>'
    [book] = bible_books(sword([front, RUTH[:300], RUTH[300:]]))
    assert book.title == "Ruth"
    assert book.text.split("\n\n") == [
        "The Book of Ruth",
        "In the days, there was a famine. She said, “Don’t & go.”",
        "Where you go,\nI will go.",
    ]


def test_the_old_testament_comes_first(sword: Sword) -> None:
    later = RUTH.replace("Ruth", "Mark")
    books = bible_books(dict(sorted((sword([later], "nt") | sword(["", RUTH], "ot")).items())))
    assert [book.title for book in books] == ["Ruth", "Mark"]


def test_a_commentary_without_outlines_and_verse_numbers(sword: Sword) -> None:
    chapter = (
        '<title type="x-s2">Chapter {0}</title> <title type="x-IS">Chapter Outline</title> <table><row><cell>Famine.'
        '</cell><cell>(1-5)</cell></row></table> <div sID="p{0}" type="x-p"/>The return. (6-9)<div eID="p{0}"/> '
        '<hi type="bold">Verses 1-5</hi> . They went, ver. #(2), to Moab. <div sID="q"/><hi type="bold">Verse 6</hi>'
        '<div eID="q"/> They came back.'
    )
    xml = (
        '<div canonical="true" osisID="Ruth" sID="g1" type="book"/><milestone n="Ruth" type="x-usfm-toc1"/>'
        '<title type="x-ms">Ruth</title><div sID="g2" type="introduction"/>A history of a family.<div eID="g2" '
        'type="introduction"/>' + chapter.format(1) + chapter.format(2) + '<title type="x-s2">Chapter 3</title>Rest.'
    )
    [book] = commentary_books(sword([xml]))
    said = ["They went, ver. 2, to Moab.", "They came back."]
    start = ["Ruth", "A history of a family."]
    assert book.text.split("\n\n") == [*start, "Chapter 1", *said, "Chapter 2", *said, "Chapter 3", "Rest."]


def test_a_commentary_on_psalms(sword: Sword) -> None:
    xml = [
        "<title></title><p> My Preface. </p>",
        '<chapter n="1" osisID="Ps.1" sID="Ps.1"/><title>EXPOSITION</title> <p> <hi type="bold">'
        'Verse 1.</hi> <hi>(first clause).</hi> Blessed by Fra Thom\x82. • </p> <chapter eID="Ps.1"/>',
        '<chapter n="2" osisID="Ps.2" sID="Ps.2"/> <p>Psalms 2:1*</p> <p>Verses 2, 3. Kings.</p><p>Verse 4. —</p>',
    ]
    documents = list(psalm_commentary(sword(xml, kind="c")))
    assert [document.title for document in documents] == ["Preface", "Psalm 1", "Psalm 2"]
    assert [document.text for document in documents] == ["My Preface.", "EXPOSITION\n\nBlessed by Fra Thomé.", "Kings."]


def test_a_damaged_index_is_refused(sword: Sword) -> None:
    files = sword([RUTH])
    with pytest.raises(ValueError, match="an index of 11 bytes"):
        list(bible_books(files | {"module/ot.bzs": files["module/ot.bzs"][:11]}))
