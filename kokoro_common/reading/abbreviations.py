"""Abbreviations: Dr. Smith, Fig. 3, U.S.A., R&D, and/or. English only."""

from __future__ import annotations

import re

from kokoro_common.reading.rule import BEGIN, END, any_of, full_stop, word_before, word_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

_ABBREVIATIONS = {  # always; with a capital behind them; with a number behind them
    "always": "Mr. Mister, Mrs. Missus, Ms. Miz, Messrs. Messers, Prof. Professor, "
    "Jr. Junior, vs. versus, vs versus, "
    "etc. et cetera, e.g. for example, eg. for example, i.e. that is, approx. approximately, "
    "al. al, Ph.D. P H D, Inc. Incorporated, "
    "Ltd. Limited, Corp. Corporation, Dept. Department, dept. department, cf. compare, "
    "viz. namely, misc. miscellaneous, "
    "Blvd. Boulevard, Ave. Avenue, incl. including, excl. excluding, w/ with",
    "name": "Dr. Doctor, St. Saint, Mt. Mount, Gen. General, Col. Colonel, "
    "Capt. Captain, Lt. Lieutenant, Sgt. Sergeant, "
    "Rev. Reverend, Gov. Governor, Sen. Senator, Rep. Representative, Hon. Honorable",
    "street": "Dr. Drive, St. Street, Rd. Road, Sr. Senior, Co. Company, Ln. Lane",
    "number": "No. number, no. number, Nos. numbers, nos. numbers, Fig. Figure, fig. figure, Figs. Figures, "
    "figs. figures, p. page, pp. pages, Vol. Volume, vol. volume, Ch. Chapter, "
    "ch. chapter, Sec. Section, sec. section, "
    "Eq. Equation, eq. equation, Art. Article, art. article, c. circa, ca. circa, para. paragraph, "
    "Jan. January, Feb. February, Mar. March, Apr. April, Jun. June, Jul. July, Aug. August, Sep. September, "
    "Sept. September, Oct. October, Nov. November, Dec. December",
}

_WRITTEN_OUT = {
    kind: dict(row.strip().split(" ", 1) for row in table.split(",")) for kind, table in _ABBREVIATIONS.items()
}

_SMALL_WORDS = word_set("in the at from near to and on of by for with visit see")


def _say_abbreviation(m: Match, lang: Language) -> str | None:
    written, after, before = m[0], m.string[m.end() : m.end() + 3], word_before(m)
    behind_name = before[:1].isupper() and before.lower() not in _SMALL_WORDS
    kinds = (
        ("always", True),
        ("name", re.match(r" [A-Z][a-zA-Z'’.]", after) and not (behind_name and written == "St.")),
        ("number", re.match(r" ?[0-9]", after)),
        ("street", behind_name),
    )
    said = next((_WRITTEN_OUT[kind][written] for kind, fits in kinds if fits and written in _WRITTEN_OUT[kind]), None)
    return None if said is None else said + full_stop(m)


def _say_initials(m: Match, lang: Language) -> str:
    return " ".join(re.findall(r"[A-Za-z]", m[0].upper())) + full_stop(m)


def _say_slashed(m: Match, lang: Language) -> str | None:
    """and/or, w/o, TCP/IP: without the slash."""
    known = {"w/o": "without", "n/a": "N A", "N/A": "N A", "I/O": "I O", "c/o": "care of", "s/he": "she or he"}
    known["24/7"] = "twenty-four seven"
    if not lang.english or m[0] in known:
        return known.get(m[0]) if lang.english else m[0]
    return m[0].replace("/", " ") if min(map(len, m[0].split("/"))) > 1 else None


def _say_ampersand(m: Match, lang: Language) -> str:
    return f"{' '.join(m[1])} and {' '.join(m[2])}"


SLASHED: Table = (
    ("", rf"{BEGIN}(?:24/7|[A-Za-z]+/[A-Za-z]+){END}(?!/)", _say_slashed),
    ("ab", rf"{BEGIN}w/(?=\s)", lambda m, lang: "with"),
)
ABBREVIATIONS: Table = (
    (
        "ab",
        rf"{BEGIN}(?:{any_of({short for kind in _WRITTEN_OUT.values() for short in kind})})(?![A-Za-z0-9])",
        _say_abbreviation,
    ),
    ("ab", rf"{BEGIN}(?:[A-Z]\.){{2,}}(?![A-Za-z])|{BEGIN}[ap]\.m\.", _say_initials),
)
AMPERSANDS: Table = (("ab", rf"{BEGIN}([A-Z]{{1,2}})&([A-Z]{{1,2}}){END}", _say_ampersand),)
