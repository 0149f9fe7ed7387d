complete -c knock -s d -l delay -d 'wait <t> milliseconds between port hits' -r
complete -c knock -l jitter -d 'wait up to <t> milliseconds longer, by chance' -r
complete -c knock -l count -d 'knock the whole sequence <n> times' -r
complete -c knock -l one-time-sequences -d 'knock the first unused line of <file>, and strike it' -r -F
complete -c knock -l wait -d 'wait until the host answers on <port>' -r
complete -c knock -l timeout -d 'wait <s> seconds for that' -r
complete -c knock -l retries -d 'if it does not answer, knock again, <n> times' -r
complete -c knock -l proxy -d 'join stdin and stdout to <port> of the host' -r
complete -c knock -l otp -d 'knock the one-time password of now' -r
complete -c knock -l otp-file -d 'the same, from the only line of <file>' -r -F
complete -c knock -l otp-digest -d 'its digest' -r -f -a "sha1\t''
sha256\t''
sha512\t''"
complete -c knock -l source-ip -d 'which address of ours the server sees' -r
complete -c knock -l clock-offset -d 'add <s> seconds to the clock of this machine' -r
complete -c knock -l config -d '--door <name> the same, of a door of a knockd.conf' -r -F
complete -c knock -l door -d '--door <name> the same, of a door of a knockd.conf' -r
complete -c knock -s n -l stanza -d 'send the single packet of a stanza of ~/.fwknoprc' -r
complete -c knock -s i -l interface -d 'send through this interface' -r
complete -c knock -l fwknoprc -d 'the stanza is in <file>' -r -F
complete -c knock -l spa -d 'ask for these ports, such as tcp/22,udp/51820' -r
complete -c knock -l allow-ip -d 'whom to let in' -r
complete -c knock -l flags -d 'fin syn rst psh ack urg ece cwr, or none' -r -f
complete -c knock -l source -d 'send from this address' -r
complete -c knock -l source-port -r
complete -c knock -l ttl -d 'time to live, hop limit' -r
complete -c knock -l tos -d 'type of service, traffic class' -r
complete -c knock -l dscp -d 'the same by its upper six bits' -r
complete -c knock -l id -d 'identification' -r
complete -c knock -l seq -d 'TCP sequence number' -r
complete -c knock -l ack-seq -d 'TCP acknowledgment number' -r
complete -c knock -l window -d 'TCP window' -r
complete -c knock -l urgent -d 'TCP urgent pointer' -r
complete -c knock -l mss -d 'TCP maximum segment size' -r
complete -c knock -l data -d 'what the packets carry' -r
complete -c knock -l pcap -d 'write the packets to <file>' -r -F
complete -c knock -l df -d 'don\'t fragment' -r -f -a "yes\t''
no\t''"
complete -c knock -s u -l udp -d 'make all ports hits use UDP'
complete -c knock -s 4 -l ipv4 -d 'Force usage of IPv4'
complete -c knock -s 6 -l ipv6 -d 'Force usage of IPv6'
complete -c knock -s v -l verbose -d 'be verbose'
complete -c knock -s V -l version -d 'display version'
complete -c knock -s h -l help -d 'this help'
complete -c knock -l both -d 'knock over IPv4 and IPv6'
complete -c knock -l list -d 'show the profiles'
complete -c knock -l insecure -d 'use a file that others can read or write'
complete -c knock -l dry-run -d 'show what would be sent'
complete -c knock -l print -d 'print the sequence and do nothing else'
complete -c knock -l new-seed -d 'print a new seed, and do nothing else'
complete -c knock -l raw -d 'craft the packets; needs CAP_NET_RAW'
complete -c knock -l bad-checksum -d 'make the TCP and UDP checksums wrong'

complete -c knock -f
complete -c knock -f -n '__fish_is_nth_token 1' -a '(knock --list 2>/dev/null | string split -f 1 " ")' -d profile
complete -c knock -f -n '__fish_is_nth_token 1' -a '(__fish_print_hostnames)'
complete -c knock -l interface -x -a '(command ls /sys/class/net 2>/dev/null)'
complete -c knock -l flags -x -a 'fin syn rst psh ack urg ece cwr none'
