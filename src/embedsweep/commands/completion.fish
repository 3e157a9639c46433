# Completion of embedsweep in fish: the program itself lists the words that can stand at the cursor.
function _embedsweep_complete
    set -lx COMP_LINE (commandline -cp)
    set -l program (commandline -opc)[1]
    if string match -q '*python*' $program
        set program "$program "(commandline -opc)[2]
        if not string match -q '*train.py' $program
            __fish_complete_path (commandline -ct)
            return
        end
    end
    set -l candidates (eval "$program -sc query=fish" 2>/dev/null)
    if test -n "$candidates"
        printf '%s\n' $candidates
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c PROGRAM -f -a '(_embedsweep_complete)'
