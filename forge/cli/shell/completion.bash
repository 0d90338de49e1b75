# Completes forge and forgew in bash, 4.4 or newer. Made by `forge completion bash`.

_forge_complete() {
    local line=${COMP_LINE:0:COMP_POINT} word head kind value part=
    # bash has broken the word at `:`, `=` and `@`, and puts an answer in place of what follows the last of them; of
    # `@`, before which it looks for a host, also in place of itself.
    word=${line##*[[:space:]]}
    head=$word
    while [[ -n $head && $COMP_WORDBREAKS != *"${head: -1}"* ]]; do head=${head%?}; done
    head=${head%@}
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain | part) COMPREPLY+=("${value#"$head"}"); part=$kind ;;
            dir) compopt -o filenames -o dirnames ;;
            file) compopt -o filenames -o default ;;
        esac
    done < <(_FORGE_COMPLETE=bash_complete COMP_LINE=$line "$1" 2>/dev/null)
    if [[ $part = part && ${#COMPREPLY[@]} -eq 1 ]]; then compopt -o nospace; fi
}

complete -o nosort -F _forge_complete forge forgew
