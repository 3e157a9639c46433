# Completion of embedsweep in bash: the program itself lists the words that can stand at the cursor.
_embedsweep_complete() {
    local program=("${COMP_WORDS[0]}") word current
    if [[ ${program[0]##*/} == python* ]]; then
        [[ ${COMP_WORDS[1]} == *train.py ]] || return
        program+=("${COMP_WORDS[1]}")
    fi
    local IFS=$'\n'
    COMPREPLY=($(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT "${program[@]}" -sc query=bash 2>/dev/null))
    # Bash splits words at = and :, and replaces the last part only.
    word=${COMP_LINE:0:COMP_POINT}
    word=${word##* }
    current=${COMP_WORDS[COMP_CWORD]}
    [[ $current == [=:] ]] && current=
    COMPREPLY=("${COMPREPLY[@]#"${word%"$current"}"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _embedsweep_complete PROGRAM
