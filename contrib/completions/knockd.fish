complete -c knockd -s i -l interface -d 'network interface to listen on' -r
complete -c knockd -s c -l config -d 'use an alternate config file' -r -F
complete -c knockd -s p -l pidfile -d 'use an alternate pidfile' -r -F
complete -c knockd -s g -l logfile -d 'use an alternate logfile' -r -F
complete -c knockd -l simulate -d 'say what knockd would do about a capture, and exit' -r -F
complete -c knockd -l address -d 'with --simulate' -r
complete -c knockd -l new-door -d 'print a new door for both ends, and exit' -r -f
complete -c knockd -l host -d 'with --new-door, what clients call this host' -r -f -a "(__fish_print_hostnames)"
complete -c knockd -l port -d 'with --new-door, the TCP port behind the door' -r -f
complete -c knockd -l web -d 'with --new-door, for browsers, by knock.html' -r -f
complete -c knockd -s d -l daemon -d 'run as a daemon'
complete -c knockd -s D -l debug -d 'output debug messages'
complete -c knockd -s l -l lookup -d 'lookup DNS names'
complete -c knockd -s v -l verbose -d 'be verbose'
complete -c knockd -s 4 -l only-ip-v4 -d 'do not track ipv6'
complete -c knockd -l single -d 'exit with 1 if another knockd runs with this pid or state file'
complete -c knockd -l check -d 'check the config file, say what looks wrong, and exit'
complete -c knockd -l status -d 'show how a running knockd is, and exit'
complete -c knockd -l json -d 'with --status'
complete -c knockd -l metrics -d 'with --status'
complete -c knockd -l guard -d 'set up the firewall table of Guard, and exit'
complete -c knockd -l unguard -d 'remove the firewall table of Guard, and exit'
complete -c knockd -l otp -d 'with --new-door, one-time passwords, not a sequence'
complete -c knockd -l spa -d 'with --new-door, single packets'
complete -c knockd -l qr -d 'with --new-door, QR codes as well'
complete -c knockd -l all-directives -d 'list the directives of the config file, and exit'
complete -c knockd -s V -l version -d 'display version'
complete -c knockd -s h -l help -d 'this help'
complete -c knockd -s s -l save-mem
complete -c knockd -l launched-by-knockd

complete -c knockd -f
complete -c knockd -s i -l interface -x -a 'auto any (command ls /sys/class/net 2>/dev/null)'
