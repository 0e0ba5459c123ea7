"""Completion scripts for bash, zsh and fish, made from the registered flags.

Written here and not by a library: those know options and choices, but not files by their ending, voices that are looked
up when they are completed, the parts of a blend, or a flag with two values.
"""

from __future__ import annotations

import re

from kokoro_common.command.arguments import flags
from kokoro_common.settings import DEVICES, ENGINES, PRECISIONS
from kokoro_common.voices.catalogue import LANGUAGES, VOICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.command.arguments import Flag

COMMANDS = ("kokoro-say", "say.py")
OWN_VOICES = r"s/^\([a-z][fm]_[a-z0-9]*\) .*/\1/p"  # sed: the names in what --list-voices prints


def words_for(flag: Flag) -> tuple[str, ...]:
    """The words that may stand for its value; empty for a kind that is looked up, or that nobody can know."""
    languages = tuple(tags[0] for _, tags in LANGUAGES.values())
    kinds = {"engine": ENGINES, "device": DEVICES, "precision": PRECISIONS, "language": languages}
    return flag.values if isinstance(flag.values, tuple) else kinds.get(flag.values, ())


def endings_for(flag: Flag) -> tuple[str, ...]:
    """The endings of the files that it takes, without their dots; empty if it takes none."""
    from kokoro_common.documents.load import EXTRACTED, MARKDOWN
    from kokoro_common.recording.formats import FORMATS

    if not isinstance(flag.values, str):
        return ()
    if flag.values.startswith("."):
        return (flag.values[1:],)
    kinds = {"document": tuple(each[1:] for each in (".txt", *MARKDOWN, *EXTRACTED)), "audio": FORMATS}
    return kinds.get(flag.values, ())


# --- bash ------------------------------------------------------------------------------------------------------------

_BASH = """\
# Completion of kokoro-say (say.py) for bash, made by its --completion.

_kokoro_say() {
    local at=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev word
    COMPREPLY=()
    while ((at > 2)) && [[ ${COMP_WORDS[at-1]} == : ]]; do # bash takes voice:weight and --flag=value apart
        at=$((at - 2))
    done
    prev=${COMP_WORDS[at-1]}
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[at-2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == -- ]] && return # the rest is text
    done
    case $prev in
@CASES@
    esac
    case ${COMP_WORDS[COMP_CWORD-2]} in
@SECOND@
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W '@FLAGS@' -- "$cur"))
    elif [[ " ${COMP_WORDS[*]:1:COMP_CWORD-1} " == *" --download "* ]]; then
        _kokoro_say_voices
        COMPREPLY+=($(compgen -W all -- "$cur"))
    fi
}

_kokoro_say_voices() { # those of the catalogue and the user's own; of a blend, its last part
    local before= names
    names=$("${COMP_WORDS[0]}" --list-voices 2>/dev/null </dev/null | sed -n '@OWN@')
    [[ $cur == *,* ]] && before=${cur%,*},
    COMPREPLY=($(compgen -P "$before" -W "${names:-@VOICES@}" -- "${cur#"$before"}"))
}

_kokoro_say_files() { # ENDING...: directories, and files with these endings; any file if there is none
    local name ending files=() any=()
    compopt -o filenames 2>/dev/null
    while IFS= read -r name; do
        any+=("$name")
        [[ -d ${name/#\\~\\//$HOME/} ]] && COMPREPLY+=("$name") && continue
        for ending; do
            [[ $name == *".$ending" ]] && files+=("$name")
        done
    done < <(compgen -f -- "$cur")
    COMPREPLY+=("${files[@]}")
    ((${#COMPREPLY[@]})) || COMPREPLY=("${any[@]}")
}

complete -F _kokoro_say @COMMANDS@
"""


def bash() -> str:
    cases: list[str] = []
    second: list[str] = []
    valued: list[str] = []
    for flag in (each for each in flags() if each.metavar):
        names = "|".join(flag.names)
        two = len(flag.metavar.split()) > 1
        if action := _bash_action(flag):
            (second if two else cases).append(f"        {names}) {action}; return ;;")
        if two or not action:
            valued.append(names)
    cases.append(f"        {'|'.join(valued)}) return ;;")
    return _filled(
        _BASH,
        CASES="\n".join(cases),
        SECOND="\n".join(second),
        FLAGS=" ".join(name for flag in flags() for name in flag.names),
    )


def _bash_action(flag: Flag) -> str:
    if flag.values == "voice":
        return "_kokoro_say_voices"
    if endings := endings_for(flag):
        return f"_kokoro_say_files {' '.join(endings)}"
    words = words_for(flag)
    return f"""COMPREPLY=($(compgen -W '{" ".join(words)}' -- "$cur"))""" if words else ""


# --- zsh -------------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef @COMMANDS@
# Completion of kokoro-say (say.py) for zsh, made by its --completion.

_kokoro_say() {
    _arguments -s -S \\
@FLAGS@
        '*:text:_kokoro_say_text'
}

_kokoro_say_voices() { # those of the catalogue and the user's own; of a blend, its last part
    local -a names
    names=(${(f)"$(${(Q)words[1]} --list-voices 2>/dev/null </dev/null | sed -n '@OWN@')"})
    (( $#names )) || names=(@VOICES@)
    compset -P '*,'
    compadd "$@" -a names
}

_kokoro_say_text() { # a text is the user's own; only --download takes names
    (( $words[(I)--download] )) && { _kokoro_say_voices; compadd all }
}

if [[ $funcstack[1] == _kokoro-say ]]; then
    _kokoro_say "$@"
else
    compdef _kokoro_say @COMMANDS@
fi
"""


def zsh() -> str:
    return _filled(_ZSH, FLAGS="\n".join(f"        {_zsh_specification(flag)} \\" for flag in flags()))


def _zsh_specification(flag: Flag) -> str:
    """As _arguments takes it: names that exclude each other, what it does, its value."""
    told = re.sub(r"([\[\]:\\])", r"\\\1", flag.help).replace("'", "'\\''")
    names = [f"{name}{'=' if name.startswith('--') else '+'}" if flag.metavar else name for name in flag.names]
    if len(flag.metavar.split()) > 1:
        names = list(flag.names)
    *first, last = flag.metavar.split() or [""]
    value = "".join(f":{word}:" for word in first) + (f":{last}:{_zsh_action(flag)}" if last else "")
    if flag.repeated:
        return f"'*'{_braced(names)}'[{told}]{value}'"
    return f"'({' '.join(flag.names)})'{_braced(names)}'[{told}]{value}'"


def _braced(names: list[str]) -> str:
    return "{" + ",".join(names) + "}" if len(names) > 1 else names[0]


def _zsh_action(flag: Flag) -> str:
    if flag.values == "voice":
        return "_kokoro_say_voices"
    if endings := endings_for(flag):
        return f'_files -g "*.({"|".join(endings)})"'
    words = words_for(flag)
    return f"({' '.join(words)})" if words else " "


# --- fish ------------------------------------------------------------------------------------------------------------

_FISH = """\
# Completion of kokoro-say (say.py) for fish, made by its --completion.

function __kokoro_say_voices # those of the catalogue and the user's own; of a blend, its last part
    set -l command (commandline -opc)[1]
    set -l names ($command --list-voices 2>/dev/null </dev/null | sed -n '@OWN@')
    test -n "$names"; or set names @VOICES@
    set -l before (string match -r '^.*,' -- (commandline -ct); or echo)
    string join \\n -- $before$names
end

function __kokoro_say_files # ENDING...: directories, and files with these endings; any file if there is none
    set -l paths (complete -C "'' "(commandline -ct))
    string match -r '.*/$|.*/\\t.*|.*\\.(?:'(string join '|' $argv)')(?:\\t.*)?$' -- $paths
    or string join \\n -- $paths
end

for command in @COMMANDS@
    complete -c $command -f
    complete -c $command -n '__fish_contains_opt download' -a '(__kokoro_say_voices) all'
@FLAGS@
end
"""


def fish() -> str:
    lines = []
    for flag in flags():
        letters = "".join(f" -s {name[1:]}" for name in flag.names if not name.startswith("--"))
        words = "".join(f" -l {name[2:]}" for name in flag.names if name.startswith("--"))
        told = flag.help.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"    complete -c $command{letters}{words}{_fish_value(flag)} -d '{told}'")
    return _filled(_FISH, FLAGS="\n".join(lines))


def _fish_value(flag: Flag) -> str:
    if not flag.metavar:
        return ""
    if flag.values == "voice":
        return " -x -a '(__kokoro_say_voices)'"
    if endings := endings_for(flag):
        return f" -x -a '(__kokoro_say_files {' '.join(endings)})'"
    words = words_for(flag)
    return f" -x -a '{' '.join(words)}'" if words else " -x"


def _filled(script: str, **parts: str) -> str:
    parts |= {"OWN": OWN_VOICES, "VOICES": " ".join(VOICES), "COMMANDS": " ".join(COMMANDS)}
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
