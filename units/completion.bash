# Installed as bash-completion/completions/pintle. Commands and options are what the installed program itself lists, so
# there is no second list to keep.
_pintle() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$(pintle help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')
    elif [[ $before == --dir || $before == --file || $before == --store ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
    elif [[ $word == -* ]]; then
        words=$(pintle "${COMP_WORDS[1]}" --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _pintle pintle
