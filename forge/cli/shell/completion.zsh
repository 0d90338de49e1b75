#compdef forge forgew
# Completes forge and forgew in zsh. Made by `forge completion zsh`.

_forge_complete() {
    local kind value text
    local -a plain parts described
    while IFS= read -r kind && IFS= read -r value && IFS= read -r text; do
        case $kind in
            plain) if [[ $text = _ ]]; then plain+=("$value"); else described+=("$value:$text"); fi ;;
            part) parts+=("$value") ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done < <(_FORGE_COMPLETE=zsh_complete COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) "${(Q)words[1]}" 2>/dev/null)
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#parts )) && compadd -U -V unsorted -S '' -a parts
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _forge_complete "$@"
else
    compdef _forge_complete forge forgew
fi
