# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_narthex_global_optspecs
    string join \n h/help V/version
end

function __fish_narthex_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_narthex_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_narthex_using_subcommand
    set -l cmd (__fish_narthex_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c narthex -n "__fish_narthex_needs_command" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_needs_command" -s V -l version -d 'Print version'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "run" -d 'Serve a configuration'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "proxy" -d 'Serve without a file: one address in front of one or more servers'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "demo" -d 'See it work: three small origins, a proxy in front of them, and what to try'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "check" -d 'Check a configuration and show every problem at once'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "config" -d 'Format, show, describe and migrate configurations'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "reload" -d 'Make the running process read its files again; says what changed, or why nothing did'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "upgrade" -d 'Replace the running program by the one that is installed now, without a lost request'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "status" -d 'How is the running process?'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "upstream" -d 'Servers of the running process: list, add, remove, drain, weight, ...'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "cache" -d 'The cache of the running process: what is stored, why something is no hit, purges, takedowns'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "certs" -d 'Certificates that the running process obtains by itself: issuer, end, next attempt, trouble'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "trust" -d 'Print the root certificate of the internal authority, for clients to trust'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "explain" -d 'Which route takes a request, and why the others don\'t'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "completions" -d 'Completions for a shell'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "man" -d 'Manual pages'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "version" -d 'The version'
complete -c narthex -n "__fish_narthex_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand run" -s c -l config -d 'The same as FILE' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand run" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -s l -l listen -d 'Where clients connect: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -s t -l to -d 'A server; once or more. Requests go to the one with the fewest in flight' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l https -d 'Where clients of HTTPS connect' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l name -d 'A name that clients of HTTPS use, beside `localhost`; once or more' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l storage -d 'Where the authority is kept [default: /var/lib/narthex for root, else ~/.local/state/narthex]' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -s w -l workers -d 'Threads that serve [default: one for each core of this machine]' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l access-log -d 'One line per request, on standard output' -r -f -a "json\t'One JSON object a line'
combined\t'NCSA combined'
off\t'None'"
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l admin -d 'Also answer `status`, `explain` and /metrics here: `127.0.0.1:9180` or `unix:/path`' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l cache -d 'Cache what may be cached. `--cache=rfc9111`: everything that HTTP allows, guessed lifetimes included' -r -f -a "safe\t'What origins say explicitly, but nothing with a cookie, and no errors'
rfc9111\t'Everything that RFC 9111 allows a shared cache'"
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l cache-disk -d 'Keep it in files of this directory, too, so that a restart finds it [default SIZE: 10GiB]' -r
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l tls -d 'Also serve HTTPS'
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -l print -d 'Print the configuration file that says the same, and do nothing else'
complete -c narthex -n "__fish_narthex_using_subcommand proxy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand demo" -l port -d 'Port of the proxy; a free one if it is taken' -r
complete -c narthex -n "__fish_narthex_using_subcommand demo" -l admin-port -d 'Port of the admin address; a free one if it is taken' -r
complete -c narthex -n "__fish_narthex_using_subcommand demo" -l access-log -d 'Show every request'
complete -c narthex -n "__fish_narthex_using_subcommand demo" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand check" -s c -l config -d 'The same as FILE' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand check" -l json -d 'A JSON array of problems, for editors and pipelines'
complete -c narthex -n "__fish_narthex_using_subcommand check" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "fmt" -d 'Put files into the one common shape'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "show" -d 'Print a configuration'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "diff" -d 'What differs between the running process and the files'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "schema" -d 'Print the JSON Schema of the JSON form'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "migrate" -d 'Bring a file to the current version of the language'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "docs" -d 'Print the reference manual of the language'
complete -c narthex -n "__fish_narthex_using_subcommand config; and not __fish_seen_subcommand_from fmt show diff schema migrate docs help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from fmt" -l check -d 'Change nothing; exit 1 if something would change'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from fmt" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from show" -s c -l config -d 'The same as FILE' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from show" -l effective -d 'With every default that applies'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'As JSON'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from diff" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from diff" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from diff" -l write -d 'Write the changes into the files'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from diff" -l json -d 'As JSON'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from migrate" -l write -d 'Rewrite the file instead of printing'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from migrate" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from docs" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "fmt" -d 'Put files into the one common shape'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print a configuration'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "diff" -d 'What differs between the running process and the files'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "schema" -d 'Print the JSON Schema of the JSON form'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "migrate" -d 'Bring a file to the current version of the language'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "docs" -d 'Print the reference manual of the language'
complete -c narthex -n "__fish_narthex_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand reload" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand reload" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand reload" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upgrade" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upgrade" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upgrade" -l timeout -d 'Seconds until the new process must be ready' -r
complete -c narthex -n "__fish_narthex_using_subcommand upgrade" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand status" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand status" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand status" -l json -d 'As JSON'
complete -c narthex -n "__fish_narthex_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "list" -d 'Servers with their state and what they are doing'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "add" -d 'Add a server'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "remove" -d 'Remove a server: nobody new, requests under way to their end'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "weight" -d 'Give a server another share of requests'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "drain" -d 'Send a server nobody new'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "undrain" -d 'Use a server again, after `drain` or `down`'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "up" -d 'Use a server again, after `drain` or `down`'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "down" -d 'Send a server nothing at all; requests under way go to their end'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "reset" -d 'Forget every change of an upstream: back to what is written and found'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "audit" -d 'The last changes: who, what, before, after, or why not'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and not __fish_seen_subcommand_from list add remove weight drain undrain up down reset audit help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from list" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from list" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from list" -l watch -d 'Again every second, until Ctrl-C'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from list" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l weight -d 'Its share of requests' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l priority -d '0 to 15; servers of a lower one come first' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l zone -d 'Where it is, to be compared with the `zone` of the file' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l state -d 'What it may be used for' -r -f -a "ready\t'Everything'
drain\t'Nobody new'
down\t'Nothing'"
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l backup -d 'Used only when no other is available'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from remove" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from remove" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from remove" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from weight" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from weight" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from weight" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from weight" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -l for -d 'After so long the server is `down`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -l wait -d 'Return when nothing is under way at the server'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from undrain" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from undrain" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from undrain" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from undrain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from up" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from up" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from up" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from up" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from down" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from down" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from down" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from down" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from reset" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from reset" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from reset" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from audit" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from audit" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from audit" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "list" -d 'Servers with their state and what they are doing'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add a server'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove a server: nobody new, requests under way to their end'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "weight" -d 'Give a server another share of requests'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Send a server nobody new'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "undrain" -d 'Use a server again, after `drain` or `down`'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "down" -d 'Send a server nothing at all; requests under way go to their end'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "reset" -d 'Forget every change of an upstream: back to what is written and found'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "audit" -d 'The last changes: who, what, before, after, or why not'
complete -c narthex -n "__fish_narthex_using_subcommand upstream; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "stats" -d 'What the cache holds, and what happened in it'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "get" -d 'What is stored of a URL\'s path: age, lifetime, size, variants, validators, tags'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "why" -d 'Why a request is no hit, and what would make it one'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "purge" -d 'Forget what is stored'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "block" -d 'Take a URL down: it is answered with 451 or 410 at once, whatever is stored, and what is stored goes'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "unblock" -d 'Take a takedown back, named as it was blocked'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "blocks" -d 'Everything that is blocked'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and not __fish_seen_subcommand_from stats get why purge block unblock blocks help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from stats" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from stats" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from stats" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -l method -d 'Method' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -s H -l header -d 'A header line `Name: value`; once or more' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -l client -d 'The client\'s address' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -l listener -d 'The listener\'s name, such as `:8080`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -l method -d 'Method' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -s H -l header -d 'A header line `Name: value`; once or more' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -l client -d 'The client\'s address' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -l listener -d 'The listener\'s name, such as `:8080`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from why" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l prefix -d 'Every URL that begins so' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l host -d 'Everything of a host' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l tag -d 'Everything with this tag (of `Surrogate-Key`, `Cache-Tag`)' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l all -d 'Everything'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l soft -d 'It becomes stale instead of going: `stale-while-revalidate` serves it while the origin is asked'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l prefix -d 'Every URL that begins so' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l status -d '451 (for legal reasons) or 410 (gone)' -r -f -a "451\t''
410\t''"
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l reason -d 'Why, for the list and the log; clients do not see it' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l for -d 'So long; without it until it is taken back' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from block" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from unblock" -l prefix -d 'Every URL that begins so' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from unblock" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from unblock" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from unblock" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from unblock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from blocks" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from blocks" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from blocks" -l json -d 'The answer as JSON'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from blocks" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "stats" -d 'What the cache holds, and what happened in it'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "get" -d 'What is stored of a URL\'s path: age, lifetime, size, variants, validators, tags'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "why" -d 'Why a request is no hit, and what would make it one'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "purge" -d 'Forget what is stored'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "block" -d 'Take a URL down: it is answered with 451 or 410 at once, whatever is stored, and what is stored goes'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "unblock" -d 'Take a takedown back, named as it was blocked'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "blocks" -d 'Everything that is blocked'
complete -c narthex -n "__fish_narthex_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand certs" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand certs" -s c -l config -d 'Find the admin address in this file' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand certs" -l json -d 'As JSON'
complete -c narthex -n "__fish_narthex_using_subcommand certs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand trust" -s c -l config -d 'The configuration; as for `run` when it is left out' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand trust" -l storage -d 'Where the authority is kept, instead of a configuration: what `narthex proxy --tls` says' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand trust" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand explain" -s H -l header -d 'A header line `Name: value`; once or more' -r
complete -c narthex -n "__fish_narthex_using_subcommand explain" -l client -d 'The client\'s address' -r
complete -c narthex -n "__fish_narthex_using_subcommand explain" -l listener -d 'The listener\'s name, such as `:8080`' -r
complete -c narthex -n "__fish_narthex_using_subcommand explain" -s c -l config -d 'Ask this file instead of the running process' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand explain" -l admin -d 'Where the process answers: `unix:/run/narthex/admin.sock` or `127.0.0.1:9180`' -r
complete -c narthex -n "__fish_narthex_using_subcommand explain" -l json -d 'As JSON'
complete -c narthex -n "__fish_narthex_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c narthex -n "__fish_narthex_using_subcommand completions" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand man" -l out -d 'Write one page per command here; without it the main page goes to standard output' -r -F
complete -c narthex -n "__fish_narthex_using_subcommand man" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand version" -s h -l help -d 'Print help'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "run" -d 'Serve a configuration'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "proxy" -d 'Serve without a file: one address in front of one or more servers'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "demo" -d 'See it work: three small origins, a proxy in front of them, and what to try'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "check" -d 'Check a configuration and show every problem at once'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "config" -d 'Format, show, describe and migrate configurations'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "reload" -d 'Make the running process read its files again; says what changed, or why nothing did'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "upgrade" -d 'Replace the running program by the one that is installed now, without a lost request'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "status" -d 'How is the running process?'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "upstream" -d 'Servers of the running process: list, add, remove, drain, weight, ...'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "cache" -d 'The cache of the running process: what is stored, why something is no hit, purges, takedowns'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "certs" -d 'Certificates that the running process obtains by itself: issuer, end, next attempt, trouble'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "trust" -d 'Print the root certificate of the internal authority, for clients to trust'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "explain" -d 'Which route takes a request, and why the others don\'t'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "completions" -d 'Completions for a shell'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "man" -d 'Manual pages'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "version" -d 'The version'
complete -c narthex -n "__fish_narthex_using_subcommand help; and not __fish_seen_subcommand_from run proxy demo check config reload upgrade status upstream cache certs trust explain completions man version help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "fmt" -d 'Put files into the one common shape'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Print a configuration'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "diff" -d 'What differs between the running process and the files'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "schema" -d 'Print the JSON Schema of the JSON form'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "migrate" -d 'Bring a file to the current version of the language'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "docs" -d 'Print the reference manual of the language'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "list" -d 'Servers with their state and what they are doing'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "add" -d 'Add a server'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "remove" -d 'Remove a server: nobody new, requests under way to their end'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "weight" -d 'Give a server another share of requests'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "drain" -d 'Send a server nobody new'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "undrain" -d 'Use a server again, after `drain` or `down`'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "down" -d 'Send a server nothing at all; requests under way go to their end'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "reset" -d 'Forget every change of an upstream: back to what is written and found'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from upstream" -f -a "audit" -d 'The last changes: who, what, before, after, or why not'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "stats" -d 'What the cache holds, and what happened in it'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "get" -d 'What is stored of a URL\'s path: age, lifetime, size, variants, validators, tags'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "why" -d 'Why a request is no hit, and what would make it one'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "purge" -d 'Forget what is stored'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "block" -d 'Take a URL down: it is answered with 451 or 410 at once, whatever is stored, and what is stored goes'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "unblock" -d 'Take a takedown back, named as it was blocked'
complete -c narthex -n "__fish_narthex_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "blocks" -d 'Everything that is blocked'
