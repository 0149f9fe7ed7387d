#!/bin/bash
# `Guard` beside Docker: a port that Docker publishes, which it rewrites before any firewall
# sees it, is closed until somebody knocks, over restarts of the container and of Docker.
# Not among the tests of all: docker.io, from Debian, is large, and nothing else needs it.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    skipped "Docker" "it is not there: apt-get install --no-install-recommends docker.io"
    exit 0
fi
cable eth0 eth0
export DOCKER_HOST=unix:///run/docker-test.sock
mkdir data exec
docker_starts() {
    dockerd --data-root "$PWD/data" --exec-root "$PWD/exec" -H $DOCKER_HOST --pidfile "$PWD/docker.pid" \
        --storage-driver vfs >>dockerd.log 2>&1 &
    dockerd=$!
    soon docker version || failed "Docker starts" "$(tail -n 5 dockerd.log)"
}
docker_starts

# An image of busybox, and the libraries that it needs.
mkdir -p image/bin image/www
cp "$(command -v busybox)" image/bin/busybox
for library in $(ldd image/bin/busybox | grep -o '/lib[^ ]*'); do
    install -D "$library" "image$library"
done
echo published >image/www/index.html
tar -C image -c . | docker import - page >/dev/null
check "a container with a published port" \
    docker run --detach --name web --restart always --publish 8080:80 page /bin/busybox httpd -f -p 80 -h /www
answers() { [ "$(at_client curl -s -m 3 "http://$1:8080/")" = published ]; }
check "the port is open without a guard" soon answers 10.83.0.1

cat >knockd.conf <<'END'
[options]
    Guard = yes
[page]
    Sequence = 7000:udp
    Open = tcp/8080
    Cmd_Timeout = 600
END
"$KNOCKD" -v -i eth0 -c knockd.conf >said 2>&1 &
daemon=$!
soon grep -q 'listening on' said || failed "the daemon starts" "$(cat said)"

# stays_closed WHEN, is_open WHEN
stays_closed() { check "$1: closed" lacks answers 10.83.0.1; }
is_open() { check "$1: open" soon answers 10.83.0.1; }
restart_docker() {
    kill $dockerd && wait $dockerd
    docker_starts
    soon docker exec web /bin/busybox true
}
stays_closed "with the guard"
check "the container restarts" docker restart -t 0 web
stays_closed "after the container's restart"
restart_docker
stays_closed "after Docker's restart"
at_client "$KNOCK" -u 10.83.0.1 7000
is_open "after a knock"
check "the container restarts" docker restart -t 0 web
is_open "after the container's restart"
restart_docker
is_open "after Docker's restart"
address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web)
check "the host itself reaches the container" soon curl -s -m 3 "http://$address/"

kill $daemon
wait $daemon
check "the guard goes" "$KNOCKD" --unguard -c knockd.conf
is_open "without a guard"
docker rm -f web >/dev/null
kill $dockerd
wait $dockerd
exit 0
