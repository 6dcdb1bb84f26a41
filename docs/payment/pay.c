/* A payment application in C: cc -o pay pay.c; ./pay /run/posagent/api.sock
 * Each line of its standard input is a customer. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int line = -1, seq;
static const char *path;

/* The agent is away or busy: payments go on, but not on the data of a version that may be rolled back. */
static int unheard(void) {
    return access("/run/posagent-data/current.trial", F_OK) != 0;
}

/* Say what is held from now on. False where the agent says that a restart has begun, and during a trial. */
static int hold(const char *holds, int payments) {
    char text[4096], wanted[32];
    if (line < 0) { /* the agent was away: connect again */
        struct sockaddr_un agent = {.sun_family = AF_UNIX};
        strncpy(agent.sun_path, path, sizeof agent.sun_path - 1);
        line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(line, (struct sockaddr *)&agent, sizeof agent)) { close(line); line = -1; return unheard(); }
    }
    int length = snprintf(text, sizeof text, "{\"verb\":\"payment\",\"args\":{\"name\":\"c-pay\",\"lease_s\":60,"
                          "\"holds\":[%s],\"payments\":%d,\"seq\":%d}}\n", holds, payments, ++seq);
    snprintf(wanted, sizeof wanted, "\"seq\":%d}", seq);
    if (write(line, text, length) != length) { close(line); line = -1; return unheard(); }
    struct pollfd answer = {.fd = line, .events = POLLIN};
    size_t have = 0;
    while (have < sizeof text - 1 && poll(&answer, 1, 200) > 0) { /* the answer to this very line */
        ssize_t got = read(line, text + have, sizeof text - 1 - have);
        if (got <= 0) { close(line); line = -1; return unheard(); }
        text[have += got] = 0;
        char *told = strstr(text, wanted);
        while (told && told > text && told[-1] != '\n') told--;
        if (told) return !strstr(told, "\"may_hold\":false");
    }
    return unheard();
}

int main(int count, char **words) {
    struct pollfd customer = {.fd = 0, .events = POLLIN};
    char card[64];
    path = count > 1 ? words[1] : "/run/posagent/api.sock";
    signal(SIGPIPE, SIG_IGN);
    hold("", 0);
    for (;;) {
        if (poll(&customer, 1, 20000) == 0) { hold("", 0); continue; } /* nobody there: renew the lease */
        if (read(0, card, sizeof card) <= 0) return 0;
        if (!hold("{\"reason\":\"transaction\"}", 0)) puts("please wait, the terminal is being updated");
        else puts("paid"); /* here the payment is taken */
        hold("", 1);
        fflush(stdout);
    }
}
