"""A small part-of-speech tagger for English: the tags that misaki's lexicon needs, for when there is no spaCy model.

misaki needs tags for three things: to keep punctuation, to read money and numbers, and to choose between two sounds of
one spelling ("they live", "a live show"). So closed classes are tables, the shape of a token decides numbers and
punctuation, and an open-class word gets its place, verb, noun or predicate, from the tags to its left and the one to
its right. Tags are Penn Treebank's, as spaCy gives them, but a present form without -s is VB, never VBP: misaki sounds
a VBP "read" as past tense.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def _word_set(line: str) -> frozenset[str]:
    return frozenset(line.split())


# Closed classes, and open-class words that the rules lean on. Classes in lower case are finer than Penn's.
_CLASSES = {
    "DT": "the a an this these those every each some any no another either neither all both such half",
    "PRP$": "my your his its our their whose her",
    "PRP": "i you we they he she ye thou",
    "it": "it",
    "object": "me him us them myself yourself himself herself itself ourselves themselves",
    "MD": "will would can could shall should may might must wo ca 'll 'd",
    "do": "do does did doth",
    "have": "have has had having 've",
    "be": "be is are was were been being am 'm 're ai",
    "EX": "there",
    "TO": "to",
    "CC": "and or but nor yet so & plus",
    "of": "of",
    "IN": "in on at by for with from into onto over under about against between through during before after above "
    "below since until till without within along across behind beyond near toward towards upon via per like unlike as "
    "if than because while although though whether unless except despite throughout among amid around versus vs vs. "
    "once",
    "RP": "up down off out away back",
    "who": "who whom",
    "WDT": "which what whatever",
    "WRB": "when where why how whenever wherever",
    "RB": "not n't never always often sometimes usually rarely seldom also just only even still already again soon "
    "now then here ever almost perhaps maybe hardly twice later ago well tomorrow today tonight yesterday please",
    "degree": "too very quite rather more most less least fairly pretty",
    "let": "let lets help helps helped helping make makes made making watch watched hear heard",
    "seem": "seem seems seemed stay stays stayed remain remains remained become becomes became feel feels felt get "
    "gets got getting gotten grow grew go goes went look looks looked come came sound sounds keep kept stand stood",
    "JJ": "good bad new old big small great high low long short many much few other same own last next fresh early "
    "late hard free best worst whole full little several daily weekly friendly lovely ugly holy fine",
    "CD": "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
    "billion trillion zero dozen",
    "NN": "family reply supply july italy assembly thing something nothing anything everything bus news morning "
    "evening wedding building red bed seed need speed",
    "NNS": "people children men women police mice feet teeth geese others",
    "VB": "say think know believe hope want see try apply rely fly",
    "VBD": "said thought knew believed saw told found took gave ran sat met left lost built bought brought held wrote "
    "spoke broke tore won fell rose led began drew drove sold sent spent paid ate stole blew hid swore meant",
    "VBZ": "says thinks knows means shows",
}
_CLOSED = {word: tag for tag, words in _CLASSES.items() for word in words.split()}
_PENN = {"it": "PRP", "object": "PRP", "do": "VB", "have": "VB", "be": "VBZ", "of": "IN", "who": "WP", "let": "VB"}
_PENN |= {"degree": "RB", "seem": "VB", "that": "IN"}
_MARKS = {
    **dict.fromkeys((".", "!", "?"), "."),
    **dict.fromkeys((":", ";", "…", "—", "–", "-"), ":"),
    **dict.fromkeys("([{", "-LRB-"),
    **dict.fromkeys(")]}", "-RRB-"),
    **dict.fromkeys("“«", "``"),
    **dict.fromkeys("”»", "''"),
    **dict.fromkeys("$£€", "$"),
    **dict.fromkeys("*~|_•·¿¡", "NFP"),
    ",": ",",
    "#": "#",
}
_NUMBER = re.compile(r"[-+]?[.,]?\d")
_ADJECTIVES = _word_set(
    "absent abstract alternate animate appropriate approximate articulate bass close compact consummate content "
    "converse coordinate degenerate deliberate desolate deviate diffuse duplicate elaborate frequent illegitimate "
    "incarnate inside intimate invalid learned legitimate live minute moderate nearby overhead perfect present "
    "prostrate separate sophisticate subordinate underground upset uptown"
)
_MOSTLY_VERBS = _word_set("compress excuse extract insert invite produce read refuse reread transfer use")
_OWN_PAST = _word_set("dove read reread wound")  # a past form that is spelled like another word
_PAST_HINTS = _word_set("yesterday last ago earlier was were did had when")
_NOUN_BEFORE_TO = _word_set("according contrary due next owing prior similar thanks used")
_BEFORE_CLAUSE = re.compile(  # "that" after these begins a clause: "say that", "sure that"
    r"(sa(y|id)|th(ink|ought)|kn[eo]w|s(ee|aw)|show|felt|found|fear|hope|heard|mean|meant|told|tell|argue|believe|claim|"
    r"agree|ensure|regret|report|suspect|suppose|note|learn|decide|predict|warn|insist|reali[sz]e|object|swore|"
    r"sure|clear|true|glad|so|such|afraid|certain)(s|d|ed)?"
)

# (tags to the left, tag to the right, place): the first row of which both patterns match decides. The left pattern is
# matched against the end of the sentence so far, without its adverbs; START stands for its beginning.
_STOP = r"(?:START|[,:]|-LRB-|-RRB-|``|'')"
_PHRASE = r"(?:(?:DT|PRP\$|JJ|CD|NNP?) )*(?:NN|NNS|NNP|PRP|it|object)"
_OBJECT = r"DT|PRP\$?|it|object|CD|that"
_FINITE = r"be|MD|have|do|VBD|VBZ"
_INSIDE = r"(?:VB.?|be|have|let|IN|of)(?: (?:DT|JJ|PRP\$|CD|NNP?))*"  # within the object of a verb or preposition
_RULES_BASE = (
    (r"TO", r".*", "verb"),
    (r"(?:MD|do)(?: PRP| it| EX)?", r".*", "verb"),
    (rf"(?:{_STOP}|WRB|WDT|who) (?:MD|do) {_PHRASE}", rf"(?!(?:{_FINITE})$).*", "verb"),
    (rf"let {_PHRASE}", r".*", "verb"),
    (r"(?:be|seem|degree)(?: PRP| it| EX)?", r".*", "predicate"),
    (r"(?:VB[DZG]?|IN) it|object", r".*", "predicate"),
    (r"PRP|it|who", r".*", "verb"),
    (r"NNS", rf"(?!(?:of|{_FINITE})$).*", "verb"),
    (r"(?:NN|NNS|NNP|PRP|DT|CD|,|IN) WDT", r".*", "verb"),
    (r"VB CC", r".*", "verb"),
    (rf"CC|{_STOP}", rf"{_OBJECT}|RP", "verb"),
    (r"START", r"NNS?|JJ", "noun or order"),
    (r".*", r".*", "noun"),
)
_RULES_S = (
    (r"PRP|it|who", r".*", "verb"),
    (r"(?:NN|NNS|NNP|PRP|DT|CD|,|IN) WDT", r".*", "verb"),
    (r"VBZ? CC", r".*", "verb"),
    (r"CC|NN|NNP|VBD|VBN|RP", _OBJECT, "verb"),
    (rf"{_INSIDE} NN", r".*", "noun"),
    (r"NN|NNP|VBD|VBN|RP", rf"(?!(?:of|VB|{_FINITE})$).*", "verb"),
    (r".*", r".*", "noun"),
)


def _compiled(rules: tuple[tuple[str, str, str], ...]) -> tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...]:
    return tuple((re.compile(rf"(?:^|.* )(?:{left})"), re.compile(right), place) for left, right, place in rules)


_BASE, _S = _compiled(_RULES_BASE), _compiled(_RULES_S)


def tag(words: Sequence[str], spaces: Sequence[bool]) -> list[str]:
    """Penn tags for the tokens of one text, as spaCy's tokenizer cuts them; `spaces[i]`: a blank follows word i."""
    shouted = 2 * sum(word.isupper() for word in words) > sum(word[:1].isalpha() for word in words) and len(words) > 3
    guesses = [_guess(word, shouted) for word in words]
    past = not _PAST_HINTS.isdisjoint(word.lower() for word in words)
    tags: list[str] = []
    trail, before = ["START"], ""  # tags of the sentence so far and its last word, both without adverbs
    for i, (word, guess) in enumerate(zip(words, guesses, strict=True)):
        rights = [right for right in guesses[i + 1 : i + 4] if right != "RB"] + ["."]
        found = guess
        if guess == "quote":
            found = _quote(word, trail, starts=i == 0 or spaces[i - 1], ends=spaces[i] or i + 1 == len(words))
        elif guess == ":" and word in ("-", "–") and 0 < i < len(words) - 1 and not (spaces[i - 1] or spaces[i]):
            found = "HYPH"
        else:
            found = _in_context(word, guess, trail[-12:], before, rights, past)
        tags.append(found)
        if found == ".":
            trail, before = ["START"], ""
        elif found not in ("RB", "_SP", "HYPH"):
            trail.append(found)
            before = word.lower()
    return [_PENN.get(found, found) for found in tags]


def _guess(word: str, shouted: bool) -> str:
    """The class of a word by its shape and the tables alone."""
    low = word.lower().replace("’", "'")
    if not word.strip():
        return "_SP"
    if word in _MARKS or not any(c.isalnum() for c in word):
        return _mark(word)
    if _NUMBER.match(word):
        return "CD"
    if word in ("US", "IT", "WHO") and not shouted:
        return "NNP"
    if low in _CLOSED or low in ("that", "'s", "used"):
        return _CLOSED.get(low, low)
    if word.isupper() and len(word) > 1:
        return "NN" if shouted else "NNP"
    for suffix, tag in (("ly", "RB"), ("ing", "VBG"), ("ed", "VBD"), ("s", "NNS")):
        if low.endswith(suffix) and len(low) > len(suffix) + 2 and not low.endswith(("ss", "us", "is", "eed")):
            return tag
    return "JJ" if re.search(r"(ous|ful|ive|less|able|ible|ic|al)$", low) and low not in _ADJECTIVES else "NN"


def _mark(word: str) -> str:
    """The tag of a token without letters or digits. Symbols that have a name are SYM, so that they are read."""
    if word in "\"'‘’`":
        return "quote"
    return _MARKS.get(word) or next((_MARKS[c] for c in word if c in _MARKS and c not in "$#"), "SYM")


def _quote(word: str, trail: list[str], starts: bool, ends: bool) -> str:
    if word in "'’" and not starts and trail[-1].startswith("NN") and "``" not in trail:
        return "POS"
    return "``" if (starts and not ends) or word in "‘`" else "''"


def _in_context(word: str, guess: str, trail: list[str], before: str, rights: list[str], past: bool) -> str:
    """The class of a word in its sentence. `rights` are guesses for the words after it, without adverbs."""
    left, low = trail[-1], word.lower()
    if (word == "A" and left != "START") or (word in ("AM", "PM") and left == "CD"):
        return "NN"  # the letter, the hour
    if guess == "that":
        return _that(trail, before, rights[0])
    if guess == "used":
        return _used(left, rights)
    if guess == "'s":
        return "POS" if left.startswith("NN") else "be"
    if guess == "TO":
        return "IN" if before in _NOUN_BEFORE_TO else "TO"
    if guess == "IN" and low == "in" and rights[0] == "CC":
        return "RP"  # "came in and": stressed
    if guess == "MD" and left in ("DT", "PRP$"):
        return "NN"  # "the will"
    if guess == "VBD" and low not in _CLOSED:
        return "VBN" if left in ("be", "have") else "JJ" if left in ("DT", "JJ", "PRP$") else "VBD"
    if guess == "VBG":
        return "NN" if left in ("DT", "PRP$", "JJ") else "VBG"
    if low in _CLOSED or guess not in ("NN", "NNS", "JJ"):
        return guess
    if low in _OWN_PAST and (tense := _own_past(low, left, before, rights[0], past)):
        return tense
    line = " ".join(trail)
    rules = _S if guess == "NNS" else _BASE
    place = next(place for lefts, right, place in rules if lefts.fullmatch(line) and right.fullmatch(rights[0]))
    if place == "verb" or (place == "noun or order" and low in _MOSTLY_VERBS):
        return "VBZ" if guess == "NNS" else "VB"
    if word[0].isupper() and left != "START":
        return "NNP"
    return guess if low not in _ADJECTIVES else _adjective_or_noun(low, place, left, rights[0])


def _adjective_or_noun(low: str, place: str, left: str, right: str) -> str:
    if place == "predicate" or (right in ("JJ", "NN", "NNS", "NNP") and low != "content"):
        return "JJ"
    return "NN" if left in ("START", "DT", "PRP$", "POS", "IN", "of", "JJ", "CD", "have") else "JJ"


def _own_past(low: str, left: str, before: str, right: str, past: bool) -> str:
    """The tense of "read", "wound" and the like, or "" where the word may be a noun."""
    if left in ("have", "be"):
        return "VBN"
    if low in ("dove", "wound"):
        moved = left in ("NN", "NNP", "CC", "RB") and re.fullmatch(rf"{_OBJECT}|RP|IN", right)
        return "VBD" if moved or left in ("PRP", "it", "who") else ""
    if left in ("NN", "NNP", "it") or before in ("he", "she", "everyone"):
        return "VBD"
    return "VBD" if past and left in ("PRP", "NNS", "who") else ""


def _used(left: str, rights: list[str]) -> str:
    """JJ or VBD is the "used to" that rhymes with "loosed to"."""
    if rights[0] == "TO" and left != "have":
        accustomed = left == "seem" or rights[1] in ("DT", "PRP$", "PRP", "it", "object", "that", "VBG", "JJ", "NNS")
        return "VBD" if left not in ("be", "seem") else "JJ" if accustomed else "VBN"
    return "VBN" if left in ("be", "have") else "VBD"


def _that(trail: list[str], before: str, right: str) -> str:
    """DT is the stressed "that"; the others are the weak one: WDT a relative, IN before a clause."""
    left, opening = trail[-1], trail[-2:-1]
    if right in _MARKS.values() or right == "quote":
        return "DT"
    if left.startswith("NN") or left in ("CD", "DT"):
        return "WDT"
    if left == "be" and opening and re.fullmatch(rf"{_STOP}|WRB|WDT", opening[0]):
        return "DT"
    if _BEFORE_CLAUSE.fullmatch(before):
        return "DT" if right in ("be", "MD") else "IN"
    if left in ("START", "CC", ",", ":"):
        return "IN" if right == "PRP" else "DT"
    if left in ("IN", "of", "TO"):
        return "DT"
    return "IN" if right in ("PRP", "it", "DT", "PRP$", "EX", "NNS", "NNP") else "DT"
