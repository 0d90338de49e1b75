# Completes forge and forgew in fish. Made by `forge completion fish`.

function _forge_complete
    set -l words (commandline -opc)
    # Of `--option=PATH` the path is completed, and the option kept before it.
    set -l word (commandline -t)
    set -l option (string match --regex -- '^--[^=]+=' $word)
    set -l rest (string replace -- "$option" '' $word)
    for answer in (_FORGE_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) $words[1] 2>/dev/null)
        set -l parts (string split --max 1 , -- $answer)
        switch $parts[1]
            case plain part
                echo $parts[2]
            case dir
                printf '%s\n' "$option"(__fish_complete_directories $rest)
            case file
                printf '%s\n' "$option"(__fish_complete_path $rest)
        end
    end
end

complete --no-files --command forge --arguments '(_forge_complete)'
complete --no-files --command forgew --arguments '(_forge_complete)'
