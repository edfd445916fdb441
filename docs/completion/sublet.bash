# bash completion for sublet. Written by scripts/manual.

_sublet() {
    local line=${COMP_LINE:0:COMP_POINT} words word before at=2 offered='' files=''
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    local last=$((${#words[@]} - 1))
    word=${words[last]} before=${words[last - 1]}
    COMPREPLY=()
    if ((last < 2)); then
        offered='run rm list plan help --help --version'
    else
        case ${words[1]} in
        run)
            # From `--`, or the first word that is none of ours, on, the words are the command's.
            while ((at < last)); do
                case ${words[at]} in
                --) ((at += 1)); break ;;
                --ids | --user | --view | --rootfs | --name | -v | --bind | --rw | --tmpfs | --dev-bind | -w | --workdir | -e | --env | --ulimit | --timeout | --net | --hostname | --cap-add | --cap-drop | --seccomp | --report) ((at += 2)) ;;
                -*) ((at += 1)) ;;
                *) break ;;
                esac
            done
            if ((at < last)); then
                COMPREPLY=($(compgen -f -- "$word"))
                return
            fi
            if [[ $word == --*=* ]]; then
                before=${word%%=*} word=${word#*=}
            elif ((at == last)) && [[ ${words[last - 1]} == -- || $word != -* ]]; then
                COMPREPLY=($(compgen -c -- "$word"))
                return
            fi
            case $before in
            --ids) offered='keep root full nomap host' ;;
            --user) : ;;
            --view) offered='system host' ;;
            --rootfs) files=yes ;;
            --name) : ;;
            -v) files=yes ;;
            --bind) files=yes ;;
            --rw) files=yes ;;
            --tmpfs) files=yes ;;
            --dev-bind) files=yes ;;
            -w) files=yes ;;
            --workdir) files=yes ;;
            -e) : ;;
            --env) : ;;
            --ulimit) : ;;
            --timeout) : ;;
            --net) offered='none host' ;;
            --hostname) : ;;
            --cap-add) offered='all' ;;
            --cap-drop) offered='all' ;;
            --seccomp) offered='none'; files=yes ;;
            --report) files=yes ;;
            *) ((at > last)) || offered='--ids --user --view --rootfs --name --writable --read-only -v --bind --rw --tmpfs --dev-bind -w --workdir -e --env --clearenv -t --tty -i --interactive --ulimit --timeout --die-with-parent --net --hostname --cap-add --cap-drop --new-privs --no-new-privs --seccomp --plan --json --report --help' ;;
            esac ;;
        rm) offered="--trees --help $(sublet list 2>/dev/null | sed -n '1{/^NAME/!q};1d;/^$/q;s/ .*//p')" ;;
        list) offered='--json --help' ;;
        plan)
            if ((last == 2)); then offered='explain convert run'; else files=yes; fi ;;
        help) offered='run rm list plan help' ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$offered" -- "$word"))
    [[ -n $files ]] && COMPREPLY+=($(compgen -f -- "$word"))
}
complete -o filenames -F _sublet sublet
