/* The process that holds a pod's namespaces open. As their first process it
 * must reap orphans, and end at once when it is asked to. C and not Go: every
 * pod has one, and this one takes a few pages of memory. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int sig) { (void)sig; _exit(0); }

static void reap(int sig) {
	(void)sig;
	while (waitpid(-1, 0, WNOHANG) > 0) {
	}
}

int main(void) {
	struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
	signal(SIGTERM, end);
	signal(SIGINT, end);
	sigaction(SIGCHLD, &on_child, 0);
	for (;;)
		pause();
}
