// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: kvmi serve, with VMMs that come to it and the fake behind them.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/served.h"
#include "test.h"

#define WEB	"01010101-0101-0101-0101-010101010101"
#define DB	"02020202-0202-0202-0202-020202020202"

/* Before the 2 seconds are over that a command has to leave, s */
#define SOON	1.8

static const struct qemu web = { .number = 1, .name = "web", .size = 104 };
static const struct qemu db = { .number = 2, .name = "db", .size = 96 };
static const struct fake plain = { .vcpus = 2 };

static char dir[40], path[64], key[64];
static struct run server;

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Read what the server says until it has said it; what it says then is in its end. */
static bool says(const char *text)
{
	static char said[OUTPUT];
	size_t got = strlen(said);
	struct pollfd pfd = { .fd = server.out, .events = POLLIN };
	char *at;

	while (!(at = strstr(said, text))) {
		ssize_t n = -1;

		if (poll(&pfd, 1, 20000) > 0 && got < sizeof(said) - 1)
			n = read(server.out, said + got, sizeof(said) - 1 - got);
		if (n <= 0) {
			printf("# '%s' is not in: %.300s\n", text, said);
			*said = '\0';
			return false;
		}
		got += n;
		said[got] = '\0';
	}
	at += strlen(text);
	memmove(said, at, strlen(at) + 1);
	return true;
}

static void start_server(const char *options)
{
	char args[128], control[96];
	int i;

	snprintf(args, sizeof(args), "serve %s %s", path, options);
	server = kvmi_start(NULL, args);
	/* It makes this one when all else is there. */
	snprintf(control, sizeof(control), "%s/serve-%d", dir, server.pid);
	for (i = 0; i < 500 && access(control, F_OK); i++)
		usleep(10000);
}

static int end_server(void)
{
	kill(server.pid, SIGTERM);
	return kvmi_finish(&server);
}

/* It has no more than a minute. */
static void new_server(void)
{
	end_server();
	start_server("");
}

static pid_t start_vm(const struct qemu *qemu, const struct fake *fake)
{
	char ready[128];
	pid_t pid = qemu_start(qemu, path, fake);

	snprintf(ready, sizeof(ready), "%s (%02x%02x", qemu->name, qemu->number, qemu->number);
	ok(says(ready) && says(": ready"), "the VM %s is ready", qemu->name);
	return pid;
}

/* How a VM ended: its exit code, -1: it did not within @limit seconds */
static int vm_end(pid_t pid, double limit)
{
	double end = seconds() + limit;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (seconds() > end)
			return -1;
		usleep(5000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void stop_vm(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(says("the connection has ended"), "a VM goes away");
}

/* Greet, and see that the first thing KVM gets is a whole command. */
static bool greets(const struct qemu *qemu)
{
	static const __u8 version[] = { KVMI_GET_VERSION, 0, 0, 0, 1, 0, 0, 0 };
	int sock = qemu_connect(path);
	__u8 got[sizeof(version)];
	bool good;

	good = qemu_greet(qemu, sock) &&
	       recv(sock, got, sizeof(got), MSG_WAITALL) == sizeof(got) &&
	       !memcmp(got, version, sizeof(got));
	close(sock);
	return good;
}

static void test_splits(void)
{
	static const __u32 sizes[] = { 32, 96, 104, 144, 65536 };
	struct qemu qemu = web;
	bool good;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		qemu.size = sizes[i];
		good = true;
		for (qemu.split = 0; qemu.split < 145 && qemu.split < qemu.size; qemu.split++)
			good &= greets(&qemu);
		ok(good, "a hello of %u bytes, split in every way", qemu.size);
	}
}

/* What was sent as hello is answered by the end of the connection. */
static bool is_refused(const void *hello, size_t size, bool finish)
{
	int sock = qemu_connect(path);
	__u8 byte;
	ssize_t n;

	if (size && send(sock, hello, size, MSG_NOSIGNAL) != (ssize_t)size)
		return false;
	if (finish)
		shutdown(sock, SHUT_WR);
	n = recv(sock, &byte, 1, 0);
	close(sock);
	return n <= 0 && (!n || errno == ECONNRESET);
}

static void test_bad_hellos(void)
{
	static const __u8 garbage[] = "GET / HTTP/1.1\r\n\r\n";
	__u8 hello[70000];
	struct qemu qemu = web;
	double begin;
	int silent;
	pid_t vm;

	silent = qemu_connect(path);
	must_write(silent, "\x60", 1);
	begin = seconds();
	vm = start_vm(&web, &plain);

	qemu_hello(&qemu, hello);
	ok(is_refused(hello, 0, true), "nothing");
	ok(says("hung up after 0 bytes of its hello\n"), "it says so");
	ok(is_refused(hello, 3, true), "not even a size");
	ok(says("hung up after 3 bytes of its hello\n"), "it says so");
	ok(is_refused(hello, 103, true), "a hello that is cut off");
	ok(says("hung up after 103 bytes of its hello\n"), "it says so");
	qemu.size = 31;
	ok(is_refused(hello, qemu_hello(&qemu, hello), false), "a short hello");
	ok(says("it sent no hello: that has 32 to 65536 bytes, not 31\n"), "it says so");
	qemu.size = 65537;
	ok(is_refused(hello, qemu_hello(&qemu, hello), false), "a long hello");
	ok(says("65536 bytes, not 65537\n"), "it says so");
	ok(is_refused(garbage, sizeof(garbage) - 1, false), "garbage");
	ok(says("bytes, not 542393671\n"), "it says so");

	is_number(kvmi_run(NULL, "regs -c 0 web"), 0, "that disturbed nobody else");
	ok(is_refused(NULL, 0, false), "silence");
	ok(says("it does not say hello: "), "it says so");
	ok(says(" bytes in 10 s\n") && says(" bytes in 10 s\n"), "of both");
	ok(seconds() - begin > 9 && seconds() - begin < 20, "after 10 seconds");
	close(silent);
	stop_vm(vm);
}

static void test_again(void)
{
	bool good = true;
	int i;

	for (i = 0; i < 20; i++)
		good &= is_refused("", 1, true);
	ok(good, "a VMM that comes again and again");
	is_number(end_server(), 0, "the server ends");
	is_number(count_lines(out, "hung up after 1 bytes"), 1, "that is told once");
	start_server("");
}

static void test_other_kvm(void)
{
	const struct fake newer = { .vcpus = 1, .newer = true };
	struct fake slow = { .vcpus = 1, .slow = true, .allow_after = 3 };
	struct qemu odd = web;
	pid_t vm = qemu_start(&web, path, &newer);

	ok(says("KVM speaks version 2 of the protocol, not 1\n"), "another version of KVM");
	is_number(vm_end(vm, 10), 0, "is left");

	odd.name = "a\033[31m\nb";
	vm = qemu_start(&odd, path, &slow);
	ok(says("a?[31m?b (" WEB "): ready\n"), "a name that is cleaned");
	is_number(kvmi_run(NULL, "regs " WEB), 0, "events were allowed late, and byte by byte");
	stop_vm(vm);
	slow.allow_after = 1000;
	vm = qemu_start(&web, path, &slow);
	ok(says("does not allow KVM to tell when it wants us to leave\n"), "or never");
	is_number(kvmi_run(NULL, "regs web"), 0, "which is no matter");
	stop_vm(vm);
}

/* SHA-1 of "sesame\n", and its HMAC-SHA-256 of two hellos, by another program */
static const __u8 cookie[24] = {
	24, 0, 0, 0, 0x85, 0x44, 0x93, 0xf8, 0x31, 0x85, 0x66, 0x5f, 0x21, 0xd6, 0x71, 0x2f,
	0x59, 0x30, 0x6a, 0x72, 0x09, 0x71, 0x5b, 0x66
};

static const __u8 hmac[56] = {
	56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0x14, 0x9e, 0xc1, 0x88, 0xba, 0x00, 0xa6, 0xc0, 0xd8, 0x16, 0xed, 0x02, 0x59, 0xbd, 0x94,
	0x0e, 0x7b, 0xf7, 0x98, 0xeb, 0x85, 0x8f, 0xfc, 0x02, 0xa4, 0x11, 0x60, 0x9c, 0xe9, 0x33,
	0xde, 0xbf
};

static const __u8 hmac_long[56] = {
	56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0xfe, 0x14, 0x80, 0x1e, 0xf9, 0x40, 0xc9, 0x1d, 0xbf, 0x25, 0x6d, 0x65, 0xfd, 0xf3, 0x48,
	0x00, 0x96, 0x01, 0x01, 0xcb, 0xb7, 0x7a, 0xc4, 0x57, 0x08, 0xf2, 0xb6, 0x5a, 0x63, 0x99,
	0x48, 0xd7
};

static void write_key(const char *bytes, size_t size, mode_t mode)
{
	FILE *file = fopen(key, "w");

	fwrite(bytes, 1, size, file);
	fclose(file);
	chmod(key, mode);
}

static void test_keys(void)
{
	struct qemu old = { .number = 1, .name = "web", .size = 104, .reply = cookie,
			    .reply_size = sizeof(cookie) };
	struct qemu new = { .number = 1, .name = "web", .size = 144, .auth = 2, .reply = hmac,
			    .reply_size = sizeof(hmac) };
	struct qemu longer = { .number = 1, .name = "web", .size = 200, .auth = 3,
			       .reply = hmac_long, .reply_size = sizeof(hmac_long) };
	char options[96];
	bool good = true;
	pid_t vm;

	write_key("sesame\n", 7, 0640);
	snprintf(options, sizeof(options), "--key %s", key);
	start_server(options);
	for (old.split = 0; old.split < old.size; old.split++)
		good &= greets(&old);
	ok(good, "SHA-1 of the key for an old QEMU");
	for (good = true; new.split < new.size; new.split++)
		good &= greets(&new);
	ok(good, "HMAC for a new one");
	for (good = true; longer.split < longer.size; longer.split++)
		good &= greets(&longer);
	ok(good, "and for a newer one, which says more");
	new.auth = 1;
	new.reply = cookie;
	new.reply_size = sizeof(cookie);
	ok(greets(&new), "SHA-1 if that is all that it takes");
	is_number(vm_end(qemu_start(&web, path, &plain), 10), 3, "a QEMU with another key");
	ok(says("hung up at our answer: it may have another key; its log says why\n"),
	   "it says so");
	vm = start_vm(&old, &plain);
	is_number(kvmi_run(NULL, "regs web"), 0, "one with the same works");
	is_number(end_server(), 0, "the server ends");
	is_number(vm_end(vm, 10), 0, "and leaves the VM");
	is_string(strstr(err, "chmod") ?: "", "", "without a word about the key");

	write_key("sesame\n", 7, 0644);
	snprintf(options, sizeof(options), "--hmac --key %s", key);
	start_server(options);
	ok(greets(&longer), "--hmac, with a QEMU that can do that");
	ok(greets(&web), "and with one that has no key");
	is_number(vm_end(qemu_start(&old, path, &plain), 10), 3, "and with one that cannot");
	ok(says("may want the key by SHA-1, and there is --hmac; its log says why\n"),
	   "it says so");
	end_server();
	has(err, "everybody may use the key", "a key for everybody");
}

static void test_usage(void)
{
	char args[256];

	/* Whoever runs this may be started by nohup(1). */
	signal(SIGHUP, SIG_DFL);
	start_server("");
	is_number(end_server(), 0, "a directory that is not there yet");

	is_number(kvmi_run(NULL, "serve"), 2, "serve needs a socket");
	is_number(kvmi_run(NULL, "serve --hmac /x"), 2, "--hmac needs a key");
	is_number(kvmi_run(NULL, "serve --key /nonexistent /x"), 2, "a key that is not there");
	has(err, "cannot open the key /nonexistent: No such file", "it says so");
	write_key("", 0, 0600);
	snprintf(args, sizeof(args), "serve --key %s /x", key);
	is_number(kvmi_run(NULL, args), 2, "a key without bytes");
	has(err, "is empty\n", "it says so");
	is_number(kvmi_run(NULL, "serve /nonexistent/x"), 10, "a directory that is not there");
	has(err, "cannot listen at /nonexistent/x: No such file", "it says so");
	is_number(kvmi_run(NULL, "serve vsock:x"), 10, "no port");
	has(err, "cannot listen at vsock:x: Invalid argument\n", "it says so");
	snprintf(args, sizeof(args), "serve /%0150d", 0);
	is_number(kvmi_run(NULL, args), 10, "a long path");
	has(err, "File name too long", "it says so");
	snprintf(args, sizeof(args), "serve %s", key);
	is_number(kvmi_run(NULL, args), 10, "a file that is no socket");
	has(err, "it is there, and no left over socket\n", "it says so");

	start_server("");
	snprintf(args, sizeof(args), "serve %s", path);
	is_number(kvmi_run(NULL, args), 10, "two servers at a socket");
	kill(server.pid, SIGHUP);
	is_number(kvmi_finish(&server), 0, "SIGHUP ends it");
	signal(SIGHUP, SIG_IGN);
	start_server("");
	signal(SIGHUP, SIG_DFL);
	kill(server.pid, SIGHUP);
	usleep(100000);
	is_number(kvmi_run(NULL, args), 10, "but not if that was ignored");
	kill(server.pid, SIGKILL);
	kvmi_finish(&server);
	is_number(kvmi_run(NULL, "list"), 0, "a socket that was left over");
	start_server("");
	is_number(end_server(), 0, "is no obstacle");
	ok(access(path, F_OK), "and there is none after a proper end");
}

static void test_two(void)
{
	const struct fake rip = { .vcpus = 1, .rip = 0x1234567 };
	struct qemu twin = db;
	pid_t vms[3];
	char args[64];

	vms[0] = start_vm(&web, &plain);
	vms[1] = start_vm(&db, &rip);

	is_number(kvmi_run(NULL, "list"), 0, "list");
	has(out, "  web  served: " WEB "\n", "one of them");
	has(out, "  db  served: " DB "\n", "the other");
	is_number(kvmi_run(NULL, "list --json"), 0, "for machines");
	ok(is_json(out, "\n"), "is JSON");
	has(out, "\"name\":\"db\",\"vcpus\":null,\"memory\":null,\"served\":true,\"uuid\":\"" DB
	    "\",\"user\":0,\"start_time\":1700000000}", "says the same");

	is_number(kvmi_run(NULL, "regs -c 0 db"), 0, "by name");
	has(out, "rip    0000000001234567\n", "the right one");
	is_number(kvmi_run(NULL, "regs -c 0 web"), 0, "the other one by name");
	has(out, "rip    ffffffff81000000\n", "the right one");
	is_number(kvmi_run(NULL, "regs " DB), 0, "by UUID");
	has(out, "rip    0000000001234567\n", "the right one");
	snprintf(args, sizeof(args), "regs %d", vms[1]);
	is_number(kvmi_run(NULL, args), 0, "by PID");
	has(out, "rip    0000000001234567\n", "the right one");
	is_number(kvmi_run(NULL, "regs nobody"), 3, "there are no others");
	is_number(kvmi_run(NULL, "trace --deadline 1 web"), 2, "no deadline");
	has(err, "it is the VMM that sets the deadline", "it says so");
	is_number(kvmi_run(NULL, "dump --raw web 0x100000 0xf0000"), 0, "a lot at once");

	vms[2] = start_vm(&twin, &plain);
	is_number(kvmi_run(NULL, "regs db"), 2, "two of the same name");
	has(err, "db: 2 VMs that are served are called so", "it says so");
	is_number(kvmi_run(NULL, args), 0, "but not of the same PID");

	stop_vm(vms[0]);
	is_number(kvmi_run(NULL, "regs web"), 3, "what went away is not there any more");
	is_number(kvmi_run(NULL, args), 0, "the others are");
	stop_vm(vms[1]);
	stop_vm(vms[2]);
}

static struct run begin(const char *args, const char *text)
{
	struct run run = kvmi_start(NULL, args);
	char got[4096] = "";
	size_t n = 0;

	while (!strstr(got, text) && n < sizeof(got) - 1) {
		ssize_t r = read(run.err, got + n, sizeof(got) - 1 - n);

		if (r <= 0)
			break;
		n += r;
		got[n] = '\0';
	}
	ok(strstr(got, text), "kvmi %s has begun", args);
	return run;
}

static void test_use(void)
{
	static const struct fake events = { .vcpus = 2, .events = 5, .all_answered = true };
	static const struct fake_kernel kernel = { .levels = 4 };
	static const struct fake locked = { .vcpus = 2, .kernel = &kernel };
	char text[128];
	struct run run;
	pid_t vm;

	vm = start_vm(&web, &events);
	is_number(kvmi_run(NULL, "trace -n 5 web"), 0, "trace");
	has(out, "hypercall 3 breakpoint 2", "events come through");
	run = begin("trace web", "tracing");
	is_number(kvmi_run(NULL, "regs web"), 7, "only one at a time");
	snprintf(text, sizeof(text), "in use by another tool (process %d)\n", run.pid);
	has(err, text, "it says who");
	kvmi_run(NULL, "list");
	snprintf(text, sizeof(text), "served: " WEB ", in use by process %d\n", run.pid);
	has(out, text, "and so does list");
	kill(run.pid, SIGINT);
	is_number(kvmi_finish(&run), 0, "^C ends it");
	is_number(kvmi_run(NULL, "pause --seconds 0.1 web"), 0, "pause");
	is_number(kvmi_run(NULL, "regs web"), 0, "and another, on the same connection");
	is_number(kvmi_run(NULL, "pause --daemon web"), 0, "pause in the background");
	is_number(kvmi_run(NULL, "regs web"), 7, "holds it");
	has(err, "the VM is held by 'kvmi pause' (process ", "it says so");
	is_number(kvmi_run(NULL, "resume web"), 0, "until it is told not to");
	is_number(kvmi_run(NULL, "regs web"), 0, "then it is free");
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, SOON), 0, "on a connection that still knows UNHOOK");

	vm = start_vm(&web, &locked);
	run = begin("protect web", "pages protected");
	kill(run.pid, SIGINT);
	is_number(kvmi_finish(&run), 0, "protect");
	is_number(kvmi_run(NULL, "step -n 3 web"), 0, "step");
	is_number(kvmi_run(NULL, "regs web"), 0, "all of it on the same connection");
	stop_vm(vm);
}

static void unhook_during(const char *args, const char *text)
{
	static const struct fake_kernel kernel = { .levels = 4 };
	static const struct fake how = { .vcpus = 2, .kernel = &kernel };
	pid_t vm = start_vm(&web, &how);
	struct run run = begin(args, text);

	kill(vm, SIGUSR1);
	is_number(kvmi_finish(&run), 0, "it ends in order");
	is_number(vm_end(vm, SOON), 0, "and the connection at once, with nothing left on");
}

static void test_unhook(void)
{
	struct fake forgiving = { .vcpus = 2, .events = 5, .forgiving = true };
	pid_t vm, other;
	struct run run;
	double begin_at;

	vm = start_vm(&web, &plain);
	other = start_vm(&db, &plain);
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, SOON), 0, "UNHOOK while nobody uses it: the connection ends");
	ok(says("web (" WEB "): its VMM wants us to leave\n"), "it says so");
	is_number(kvmi_run(NULL, "regs db"), 0, "that of another does not");

	unhook_during("trace web", "tracing");
	has(out, "  unhook\n", "it is shown");
	unhook_during("protect web", "pages protected");
	unhook_during("msr-guard web LSTAR", "guarded");
	unhook_during("pause web", "lets it go on");

	vm = start_vm(&web, &forgiving);
	run = begin("trace web", "tracing");
	kill(run.pid, SIGSTOP);
	begin_at = seconds();
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, 10), 0, "UNHOOK while a command hangs: the connection ends");
	ok(seconds() - begin_at > 1.9 && seconds() - begin_at < 6, "after 2 seconds");
	ok(says("did not leave it in time: the connection is closed\n"), "it says so");
	kill(run.pid, SIGCONT);
	ok(kvmi_finish(&run) >= 0, "the command ends when it can");

	vm = start_vm(&web, &plain);
	run = begin("trace web", "tracing");
	begin_at = seconds();
	is_number(end_server(), 0, "the server ends while a command runs");
	ok(seconds() - begin_at < SOON, "soon");
	is_number(kvmi_finish(&run), 0, "the command in order, too");
	is_number(vm_end(vm, SOON), 0, "with nothing left on");
	is_number(vm_end(other, SOON), 0, "and the other VM is left");
	start_server("");
}

static void test_killed(void)
{
	struct fake stuck = { .vcpus = 2, .all_answered = true, .late = true };
	struct fake dirty = { .vcpus = 2, .events = 3, .forgiving = true };
	struct run run;
	pid_t vm;

	/* It leaves vCPUs paused, and nothing else. */
	vm = start_vm(&web, &stuck);
	run = begin("pause web", "lets it go on");
	kill(run.pid, SIGKILL);
	is_number(kvmi_finish(&run), -1, "a command is killed");
	is_number(kvmi_run(NULL, "regs web"), 0, "the next one works");
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, SOON), 0, "and no vCPU is left waiting");

	vm = start_vm(&web, &dirty);
	run = begin("trace web", "tracing");
	kill(run.pid, SIGKILL);
	is_number(kvmi_finish(&run), -1, "one that has switched something on");
	is_number(vm_end(vm, SOON), 0, "costs the connection");
	ok(says("ended without leaving it in order: the connection is closed"), "it says so");
	vm = start_vm(&web, &plain);
	is_number(kvmi_run(NULL, "regs web"), 0, "and the VMM comes again");
	stop_vm(vm);
}

/* The VMM resets the guest in the middle of things. */
static void test_reset(void)
{
	const struct fake ends = { .vcpus = 1, .close_after = 23 };
	pid_t vm = start_vm(&web, &ends);
	struct run run = begin("trace web", "tracing");

	is_number(kvmi_finish(&run), 3, "the connection ends");
	is_number(vm_end(vm, SOON), 0, "by the VMM");
	vm = start_vm(&web, &plain);
	is_number(kvmi_run(NULL, "list"), 0, "it comes again");
	is_number(count_lines(out, "served: " WEB), 1, "once");
	is_number(kvmi_run(NULL, "regs web"), 0, "and works");
	stop_vm(vm);
}

/* Answers the first GET_XCR or TRANSLATE_GVA when there is a second one. */
static void answer_late(int sock)
{
	struct kvmi_get_version_reply version = { .version = KVMI_VERSION };
	struct kvmi_vm_get_info_reply info = { .vcpu_count = 1 };
	struct kvmi_msg_hdr hdr, first = { 0 };
	__u8 data[KVMI_MSG_SIZE];

	if (!qemu_greet(&web, sock))
		_exit(3);
	for (;;) {
		must_read(sock, &hdr, sizeof(hdr));
		must_read(sock, data, hdr.size);
		switch (hdr.id) {
		case KVMI_GET_VERSION:
			send_reply(sock, &hdr, 0, &version, sizeof(version));
			break;
		case KVMI_VM_GET_INFO:
			send_reply(sock, &hdr, 0, &info, sizeof(info));
			break;
		case KVMI_VCPU_TRANSLATE_GVA:
			if (!first.id) {
				first = hdr;
				break;
			}
			if (hdr.seq <= first.seq)
				_exit(1);
			send_reply(sock, &first, 0, &(__u64){ 0xbad }, 8);
			send_reply(sock, &hdr, 0, &(__u64){ 0x900d }, 8);
			break;
		default:
			send_reply(sock, &hdr, 0, NULL, 0);
		}
	}
}

static void test_late(void)
{
	pid_t pid = fork();

	if (!pid) {
		alarm(60);
		answer_late(qemu_connect(path));
	}
	ok(says("ready\n"), "a VM that answers late");
	is_number(kvmi_run(NULL, "translate -t 0.2 web 5"), 9, "too late for this command");
	is_number(kvmi_run(NULL, "translate web 5"), 0, "the next one");
	is_string(out, "0x900d\n", "gets its own answer");
	stop_vm(pid);
}

/* What KVM sends may come right behind the hello, and UNHOOK at any time. */
static void test_nothing_eaten(void)
{
	struct {
		__u8 hello[104];
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
	} msg;
	int sock = qemu_connect(path);
	__u8 got[32 + 1];

	qemu_hello(&(struct qemu){ .name = "x", .size = 104 }, msg.hello);
	msg.hdr = (struct kvmi_msg_hdr){ .size = sizeof(msg.event) };
	msg.event = (struct kvmi_event_hdr){ .event = KVMI_VM_EVENT_UNHOOK };
	must_write(sock, &msg, sizeof(msg));
	ok(recv(sock, got, sizeof(got), MSG_WAITALL) == 32, "an answer and a command");
	ok(says("its VMM wants us to leave\n"), "no byte after the hello is lost");
	close(sock);
}

static void test_control(void)
{
	struct served_request request = { .magic = SERVED_MAGIC, .op = 77 };
	struct served_reply reply;
	char control[96];
	int sock;

	snprintf(control, sizeof(control), "%s/serve-%d", dir, server.pid);
	sock = qemu_connect(control);
	must_write(sock, "0123456789abcdef", 16);
	ok(!recv(sock, &reply, sizeof(reply), 0), "a command that is none");
	close(sock);
	sock = qemu_connect(control);
	must_write(sock, &request, sizeof(request));
	ok(recv(sock, &reply, sizeof(reply), MSG_WAITALL) == sizeof(reply) && reply.err == EINVAL,
	   "a request that is none");
	request.op = SERVED_USE;
	request.id = 12345;
	must_write(sock, &request, sizeof(request));
	ok(recv(sock, &reply, sizeof(reply), MSG_WAITALL) == sizeof(reply) && reply.err == ENOENT,
	   "a VM that is none");
	ok(!recv(sock, &reply, sizeof(reply), 0), "who asks for nothing more is sent away");
	close(sock);
}

/* The connection of the first VM, without the library */
static int use_first(void)
{
	struct served_request request = { .magic = SERVED_MAGIC, .op = SERVED_LIST };
	struct served_reply reply;
	struct served_vm served;
	char control[96];
	int sock;

	snprintf(control, sizeof(control), "%s/serve-%d", dir, server.pid);
	sock = qemu_connect(control);
	must_write(sock, &request, sizeof(request));
	must_read(sock, &reply, sizeof(reply));
	must_read(sock, &served, sizeof(served));
	request.op = SERVED_USE;
	request.id = served.id;
	must_write(sock, &request, sizeof(request));
	must_read(sock, &reply, sizeof(reply));
	return sock;
}

/* Registers that were set for a reply are no good without it. */
static void test_half_done(void)
{
	const struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvm_regs regs;
	} set = { .hdr = { .id = KVMI_VCPU_SET_REGISTERS, .size = sizeof(set) - sizeof(set.hdr) } };
	const struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_pause_vcpu req;
	} pause = { .hdr = { .id = KVMI_VM_PAUSE_VCPU, .size = sizeof(pause.req) } };
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
	} answer = { .hdr = { .id = KVMI_VCPU_EVENT, .size = 16 } };
	__u8 data[KVMI_MSG_SIZE];
	pid_t vm = start_vm(&web, &plain);
	struct kvmi_msg_hdr hdr;
	int sock, i;

	for (i = 0; i < 2; i++) {
		sock = use_first();
		must_write(sock, &pause, sizeof(pause));
		do {
			must_read(sock, &hdr, sizeof(hdr));
			must_read(sock, data, hdr.size);
		} while (hdr.id != KVMI_VCPU_EVENT);
		must_write(sock, &set, sizeof(set));
		answer.hdr.seq = hdr.seq;
		answer.reply.event = KVMI_VCPU_EVENT_PAUSE;
		if (!i)
			must_write(sock, &answer, sizeof(answer));
		close(sock);
		if (!i)
			is_number(vm_end(vm, 0.3), -1, "registers were set, with the reply");
	}
	is_number(vm_end(vm, SOON), 0, "without it KVM is to forget them");
	ok(says("without leaving it in order"), "it says so");
}

/* A command that asks for a lot and reads nothing */
static void test_deaf(void)
{
	const struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_read_physical req;
	} msg = {
		.hdr = { .id = KVMI_VM_READ_PHYSICAL, .size = sizeof(msg.req), .seq = 99 },
		.req = { .gpa = 0x1000, .size = 4096 },
	};
	pid_t vm = start_vm(&web, &plain);
	int sock = use_first(), i, idle = 0;
	double begin_at;

	/* 4 GB of answers, if nobody stops it */
	for (i = 0; i < 1000000 && idle < 50; i++) {
		if (send(sock, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			usleep(10000);
			idle++;
		} else {
			idle = 0;
		}
	}
	ok(i < 100000, "a command that does not read is not listened to");
	begin_at = seconds();
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, 10), 0, "UNHOOK meanwhile");
	ok(seconds() - begin_at > 1.9 && seconds() - begin_at < 6, "it has its 2 seconds");
	close(sock);
}

/* Nobody reads what the server says. */
static void test_mute(void)
{
	pid_t vm;
	int i;

	start_server("");
	for (i = 0; i < 3000; i++)
		close(qemu_connect(path));
	vm = qemu_start(&web, path, &plain);
	usleep(300000);
	is_number(kvmi_run(NULL, "regs web"), 0, "a server that nobody reads goes on");
	kill(vm, SIGUSR1);
	is_number(vm_end(vm, SOON), 0, "and leaves when it is asked to");
	is_number(end_server(), 0, "and ends");
}

static void test_vsock(void)
{
	struct run run = kvmi_start(NULL, "serve vsock:47110");
	char text[256] = "";
	size_t n = 0;

	while (!strchr(text, '\n') && n < sizeof(text) - 1 && read(run.err, text + n, 1) == 1)
		n++;
	if (strstr(text, "waiting for VMs at vsock:47110, ^C ends\n")) {
		kill(run.pid, SIGTERM);
		is_number(kvmi_finish(&run), 0, "listening at a vsock port");
	} else {
		is_number(kvmi_finish(&run), 10, "no vsock here");
	}
}

static void test_runner(void)
{
	static const struct fake events = { .vcpus = 1, .events = 3 };
	pid_t vms[2];

	start_server("--json -- trace -n 3 hypercall breakpoint");
	vms[0] = qemu_start(&web, path, &events);
	vms[1] = qemu_start(&db, path, &events);
	ok(says("\"breakpoint\":1}}\n") && says("\"breakpoint\":1}}\n"), "a command for each VM");
	is_number(kvmi_run(NULL, "regs web"), 0, "then it can be used by others");
	kill(vms[0], SIGUSR1);
	is_number(vm_end(vms[0], SOON), 0, "UNHOOK");
	vms[0] = qemu_start(&web, path, &events);
	ok(says("\"breakpoint\":1}}\n"), "it has one again when it comes again");
	is_number(end_server(), 0, "the server ends");
	is_number(vm_end(vms[0], SOON), 0, "and leaves one");
	is_number(vm_end(vms[1], SOON), 0, "and the other");

	start_server("-- trace");
	vms[0] = start_vm(&web, &plain);
	is_number(kvmi_run(NULL, "regs web"), 7, "the VM is in use by the server's command");
	is_number(end_server(), 0, "the server ends, its command before it");
	has(out, "\n1 event in ", "in order");
	is_number(vm_end(vms[0], SOON), 0, "and the VM is left");

	start_server("-- nonsense");
	vms[0] = start_vm(&web, &plain);
	usleep(200000);
	is_number(kvmi_run(NULL, "regs web"), 0, "a command that does not run is no obstacle");
	end_server();
	has(err, "there is no command 'nonsense'", "it says so");
	is_number(vm_end(vms[0], SOON), 0, "and the VM is left");
}

void test_serve(void)
{
	char command[64], top[] = "/tmp/kvmi-serve-XXXXXX";

	if (!mkdtemp(top))
		exit(2);
	/* That is the server's to make. */
	snprintf(dir, sizeof(dir), "%s/run", top);
	setenv("KVMI_RUN_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/tool", dir);
	snprintf(key, sizeof(key), "%s/key", dir);

	test_usage();
	start_server("");
	test_splits();
	test_bad_hellos();
	new_server();
	test_again();
	test_other_kvm();
	test_two();
	test_use();
	new_server();
	test_unhook();
	test_killed();
	test_reset();
	test_late();
	test_nothing_eaten();
	test_control();
	test_half_done();
	test_deaf();
	is_number(end_server(), 0, "the server ends");
	test_keys();
	test_mute();
	test_vsock();
	test_runner();

	unsetenv("KVMI_RUN_DIR");
	snprintf(command, sizeof(command), "rm -rf %s", top);
	if (system(command))
		exit(2);
}
