// A server and a client of HTTP that do nothing else, for benchmarks/network.py: what differs between two runs is the way
// that the packets take.
//
//   requests serve PORT                                answers GET on all addresses of both families; one thread
//   requests ask ADDRESS PORT MILLISECONDS EACH        requests a second over CONNECTIONS connections, each replaced after
//                                                      EACH requests (0: never), printed as a number
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 16, EVENTS = 64, BUFFER = 4096, MOST_FDS = 1024 };

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char REPLY[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
enum { REQUEST_BYTES = sizeof REQUEST - 1, REPLY_BYTES = sizeof REPLY - 1 };

static void check(int bad, const char *what) {
    if (bad) {
        perror(what);
        exit(1);
    }
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0, "epoll_ctl");
}

static void no_delay(int fd) {
    int on = 1;
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0, "TCP_NODELAY");
}

static _Noreturn void serve(int port) {
    struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int listener = socket(AF_INET6, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;
    size_t had[MOST_FDS] = {0};
    char buffer[BUFFER];

    check(listener < 0 || epoll < 0, "socket");
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0, "SO_REUSEADDR");
    check(bind(listener, (struct sockaddr *)&here, sizeof here) < 0, "bind");
    check(listen(listener, 1024) < 0, "listen");
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int peer = accept(listener, NULL, NULL);
                if (peer < 0 || peer >= MOST_FDS) {
                    close(peer);
                    continue;
                }
                no_delay(peer);
                had[peer] = 0;
                watch(epoll, peer);
                continue;
            }
            ssize_t length = read(fd, buffer, sizeof buffer);
            if (length <= 0) {
                close(fd);
                continue;
            }
            for (had[fd] += length; had[fd] >= REQUEST_BYTES; had[fd] -= REQUEST_BYTES)
                if (write(fd, REPLY, REPLY_BYTES) != REPLY_BYTES)
                    break;
        }
    }
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

struct connection {
    int fd, asked;
    size_t had;
};

static void begin(struct connection *one, int epoll, const char *address, const char *port) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    check(inet_pton(AF_INET, address, &there.sin_addr) != 1, address);
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    one->asked = 1;
    one->had = 0;
    check(one->fd < 0 || connect(one->fd, (struct sockaddr *)&there, sizeof there) < 0, address);
    no_delay(one->fd);
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event) < 0, "epoll_ctl");
    check(write(one->fd, REQUEST, REQUEST_BYTES) != REQUEST_BYTES, "write");
}

static void end(struct connection *one) {
    // Reset: tens of thousands of ports that wait for a minute (TIME_WAIT) would be in the way of the next run.
    struct linger at_once = {.l_onoff = 1};
    check(setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) < 0, "SO_LINGER");
    close(one->fd);
}

static int ask(const char *address, const char *port, double seconds, int each) {
    struct connection all[CONNECTIONS];
    int epoll = epoll_create1(0);
    long done = 0;
    char buffer[BUFFER];
    double start, passed;

    for (int i = 0; i < CONNECTIONS; i++)
        begin(&all[i], epoll, address, port);
    for (start = now_s(); (passed = now_s() - start) < seconds;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, 1000);
        check(count == 0, "nobody answers");
        for (int i = 0; i < count; i++) {
            struct connection *one = events[i].data.ptr;
            ssize_t length = read(one->fd, buffer, sizeof buffer);
            check(length <= 0, "read");
            if ((one->had += length) < REPLY_BYTES)
                continue;
            done++;
            one->had = 0;
            if (each && one->asked++ == each) {
                end(one);
                begin(one, epoll, address, port);
            } else
                check(write(one->fd, REQUEST, REQUEST_BYTES) != REQUEST_BYTES, "write");
        }
    }
    for (int i = 0; i < CONNECTIONS; i++)
        end(&all[i]);
    printf("%.1f\n", done / passed);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(atoi(argv[2]));
    if (argc == 6 && !strcmp(argv[1], "ask"))
        return ask(argv[2], argv[3], atoi(argv[4]) / 1e3, atoi(argv[5]));
    fprintf(stderr, "usage: requests serve PORT | ask ADDRESS PORT MILLISECONDS EACH\n");
    return 2;
}
