# Completion of embedsweep in zsh: the program itself lists the words that can stand at the cursor.
_embedsweep_complete() {
    local -a program candidates
    program=("${words[1]}")
    if [[ ${words[1]:t} == python* ]]; then
        [[ ${words[2]} == *train.py ]] || { _files; return }
        program+=("${words[2]}")
    fi
    candidates=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT]}" "${program[@]}" -sc query=zsh 2>/dev/null)}")
    candidates=(${candidates:#})
    if (( ! ${#candidates} )); then
        compset -P '*='  # a file or folder as the value of a key
        _files
        return
    fi
    compadd -Q -S '' -- ${(M)candidates:#*[=./]}
    compadd -Q -- ${candidates:#*[=./]}
}
whence compdef >/dev/null || { autoload -Uz compinit && compinit -u }
compdef _embedsweep_complete PROGRAM
