// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: the library against peers that do one thing each.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

static struct kvmi_conn *connect_peer(void (*peer)(int sock), pid_t *pid)
{
	struct kvmi_conn *conn = kvmi_new();
	int sock;

	*pid = peer_start(peer, &sock);
	if (!conn || kvmi_adopt(conn, sock))
		exit(2);
	kvmi_set_timeout(conn, 2000);
	return conn;
}

static struct kvmi_conn *connect_fake(const struct fake *fake, pid_t *pid)
{
	struct kvmi_conn *conn = kvmi_new();
	int sock;

	*pid = fake_start(fake, &sock);
	if (!conn || kvmi_adopt(conn, sock))
		exit(2);
	kvmi_set_timeout(conn, 2000);
	return conn;
}

static void disconnect(struct kvmi_conn *conn, pid_t pid, const char *name)
{
	kvmi_free(conn);
	ok(peer_end(pid), "%s: KVM's end saw nothing wrong", name);
}

static void read_command(int sock, struct kvmi_msg_hdr *hdr)
{
	__u8 data[KVMI_MSG_SIZE];

	must_read(sock, hdr, sizeof(*hdr));
	must_read(sock, data, hdr->size);
}

/* What goes over the wire, byte by byte */
static struct wire {
	__u16 id;
	__u16 size;
	__u8 data[40];
} wires[32];

static unsigned int nr_wires;

static void watch_wires(int sock)
{
	struct kvmi_msg_hdr hdr;
	__u8 data[KVMI_MSG_SIZE];
	unsigned int i;

	for (i = 0; i < nr_wires; i++) {
		const struct wire *w = &wires[i];

		must_read(sock, &hdr, sizeof(hdr));
		must_read(sock, data, hdr.size);
		if (hdr.id != w->id || hdr.size != w->size || hdr.seq != i + 1 ||
		    memcmp(data, w->data, w->size < 40 ? w->size : 40)) {
			printf("# command %u: id %u size %u seq %u\n", i, hdr.id, hdr.size,
			       hdr.seq);
			fflush(stdout);
			_exit(1);
		}
		/* Everybody gets an error: nobody waits for data. */
		send_reply(sock, &hdr, -KVM_EBUSY, NULL, 0);
	}
}

static void expect_wire(__u16 id, __u16 size, const char *data)
{
	struct wire *w = &wires[nr_wires++];

	w->id = id;
	w->size = size;
	if (size)
		memcpy(w->data, data, size < sizeof(w->data) ? size : sizeof(w->data));
}

static void test_wires(void)
{
	struct kvmi_vcpu_get_cpuid_reply cpuid;
	struct kvmi_get_version_reply version;
	struct kvmi_vcpu_event_arch state;
	struct kvm_regs regs = { .rax = 0x1122, .rbx = 0x33 };
	struct kvm_msr_entry msr = { .index = 0xc0000082 };
	static struct kvm_xsave xsave = { .region = { 0x11223344, 0x55667788 } };
	static const struct kvmi_page_access_entry pages[] = {
		{ .gpa = 0x12345000, .access = 5 }, { .gpa = 0x12346000, .access = 1 },
	};
	struct kvmi_conn *conn;
	unsigned int count;
	__u8 data[16], type;
	bool all = true;
	__u64 value;
	pid_t pid;

	expect_wire(2, 0, NULL);
	expect_wire(4, 8, "\x0c\0\0\0\0\0\0\0");
	expect_wire(6, 8, "\x03\0\0\0\0\0\0\0");
	expect_wire(8, 0, NULL);
	expect_wire(10, 8, "\0\0\1\0\0\0\0\0");
	expect_wire(12, 16, "\x78\x56\x34\x12\0\0\0\0\x10\0\0\0\0\0\0\0");
	expect_wire(14, 19, "\x78\x56\x34\x12\0\0\0\0\3\0\0\0\0\0\0\0abc");
	expect_wire(16, 8, "\2\0\1\0\0\0\0\0");
	expect_wire(18, 8, "\1\0\0\0\0\0\0\0");
	expect_wire(20, 0, NULL);
	expect_wire(22, 40, "\2\0\0\0\0\0\0\0\0\x50\x34\x12\0\0\0\0\5\0\0\0\0\0\0\0"
		    "\0\x60\x34\x12\0\0\0\0\1\0\0\0\0\0\0\0");
	expect_wire(3, 8, "\1\0\0\0\0\0\0\0");
	expect_wire(5, 16, "\1\0\0\0\0\0\0\0\5\0\1\0\0\0\0\0");
	expect_wire(7, 20, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\x82\0\0\xc0");
	expect_wire(9, 152, "\1\0\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0\x33\0\0\0\0\0\0\0"
		    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
	expect_wire(11, 16, "\1\0\0\0\0\0\0\0\2\0\0\x80\7\0\0\0");
	expect_wire(13, 16, "\1\0\0\0\0\0\0\0\4\1\0\0\0\0\0\0");
	expect_wire(15, 24, "\1\0\0\0\0\0\0\0\x0e\0\0\0\2\0\0\0"
		    "\x88\x77\x66\x55\x44\x33\x22\x11");
	expect_wire(17, 16, "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
	expect_wire(19, 8, "\1\0\0\0\0\0\0\0");
	expect_wire(21, 4104, "\1\0\0\0\0\0\0\0\x44\x33\x22\x11\x88\x77\x66\x55"
		    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
	expect_wire(23, 16, "\1\0\0\0\0\0\0\0\0\x50\x34\x12\0\0\0\0");
	expect_wire(25, 16, "\1\0\0\0\0\0\0\0\1\0\0\0\x82\0\0\xc0");
	expect_wire(25, 16, "\1\0\0\0\0\0\0\0\0\0\0\0\x74\1\0\0");
	expect_wire(27, 16, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0");
	expect_wire(29, 16, "\1\0\0\0\0\0\0\0\0\0\0\x81\xff\xff\xff\xff");

	conn = connect_peer(watch_wires, &pid);
	all &= kvmi_get_version(conn, &version) == -EBUSY;
	all &= kvmi_check_command(conn, KVMI_VM_READ_PHYSICAL) == -EBUSY;
	all &= kvmi_check_event(conn, KVMI_VCPU_EVENT_HYPERCALL) == -EBUSY;
	all &= kvmi_get_vcpu_count(conn, &count) == -EBUSY;
	all &= kvmi_control_vm_event(conn, KVMI_VM_EVENT_UNHOOK, true) == -EBUSY;
	all &= kvmi_read_physical(conn, 0x12345678, data, 16) == -EBUSY;
	all &= kvmi_write_physical(conn, 0x12345678, "abc", 3) == -EBUSY;
	all &= kvmi_pause_vcpu(conn, 2, true) == -EBUSY;
	all &= kvmi_control_cleanup(conn, true) == -EBUSY;
	all &= kvmi_get_max_gfn(conn, &value) == -EBUSY;
	all &= kvmi_set_page_access(conn, pages, 2) == -EBUSY;
	all &= kvmi_get_tsc_speed(conn, 1, &value) == -EBUSY;
	all &= kvmi_control_event(conn, 1, KVMI_VCPU_EVENT_BREAKPOINT, true) == -EBUSY;
	all &= kvmi_get_registers(conn, 1, &state, &msr, 1) == -EBUSY;
	all &= kvmi_set_registers(conn, 1, &regs) == -EBUSY;
	all &= kvmi_get_cpuid(conn, 1, 0x80000002, 7, &cpuid) == -EBUSY;
	all &= kvmi_control_cr(conn, 1, 4, true) == -EBUSY;
	all &= kvmi_inject_exception(conn, 1, 14, 2, 0x1122334455667788) == -EBUSY;
	all &= kvmi_get_xcr(conn, 1, 0, &value) == -EBUSY;
	all &= kvmi_get_xsave(conn, 1, &xsave) == -EBUSY;
	all &= kvmi_set_xsave(conn, 1, &xsave) == -EBUSY;
	all &= kvmi_get_mtrr_type(conn, 1, 0x12345000, &type) == -EBUSY;
	all &= kvmi_control_msr(conn, 1, 0xc0000082, true) == -EBUSY;
	all &= kvmi_control_msr(conn, 1, 0x174, false) == -EBUSY;
	all &= kvmi_control_singlestep(conn, 1, true) == -EBUSY;
	all &= kvmi_translate_gva(conn, 1, 0xffffffff81000000, &value) == -EBUSY;
	ok(all, "every command gets the error of its reply");
	disconnect(conn, pid, "every command's bytes");
}

/* Replies of other commands come first: a late one, one with a wrong id. */
static void peer_strangers(int sock)
{
	struct kvmi_msg_hdr hdr, other;
	struct kvmi_vm_get_info_reply info = { .vcpu_count = 99 };

	read_command(sock, &hdr);
	other = hdr;
	other.seq--;
	send_reply(sock, &other, 0, &info, sizeof(info));
	other.seq = hdr.seq;
	other.id = KVMI_GET_VERSION;
	send_reply(sock, &other, 0, &info, sizeof(info));
	info.vcpu_count = 3;
	send_reply(sock, &hdr, 0, &info, sizeof(info));
}

/* A short reply, a long one, errors that the library translates */
static void peer_sizes(int sock)
{
	struct kvmi_msg_hdr hdr;
	__u8 data[64] = { 7 };

	read_command(sock, &hdr);
	send_reply(sock, &hdr, 0, data, 8);
	read_command(sock, &hdr);
	send_reply(sock, &hdr, 0, data, 64);
	read_command(sock, &hdr);
	send_reply(sock, &hdr, -KVM_ENOSYS, NULL, 0);
	read_command(sock, &hdr);
	send_reply(sock, &hdr, -KVM_EOPNOTSUPP, NULL, 0);
	read_command(sock, &hdr);
	send_reply(sock, &hdr, -KVM_EAGAIN, NULL, 0);
}

static void test_replies(void)
{
	struct kvmi_conn *conn;
	unsigned int count = 0;
	__u64 hz;
	pid_t pid;

	conn = connect_peer(peer_strangers, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "strange replies are passed over");
	is_number(count, 3, "the right one counts");
	disconnect(conn, pid, "strangers");

	conn = connect_peer(peer_sizes, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), -EPROTO, "a short reply");
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "a long reply");
	is_number(count, 7, "its beginning counts");
	is_number(kvmi_get_tsc_speed(conn, 0, &hz), -KVM_ENOSYS, "-KVM_ENOSYS");
	is_number(kvmi_failure(conn), KVMI_FAILURE_NO_SUPPORT, "the kernel is too old");
	is_number(kvmi_get_tsc_speed(conn, 0, &hz), -EOPNOTSUPP, "-KVM_EOPNOTSUPP");
	is_number(kvmi_get_tsc_speed(conn, 2, &hz), -EAGAIN, "-KVM_EAGAIN");
	is_string(kvmi_strerror(conn), "vCPU 2 was not started yet", "it says so");
	disconnect(conn, pid, "sizes");
}

/* Does not answer the first command until it gets the second */
static void peer_late(int sock)
{
	struct kvmi_vm_get_info_reply info = { .vcpu_count = 1 };
	struct kvmi_msg_hdr first, second;

	read_command(sock, &first);
	read_command(sock, &second);
	send_reply(sock, &first, 0, &info, sizeof(info));
	info.vcpu_count = 2;
	send_reply(sock, &second, 0, &info, sizeof(info));
}

static void test_timeout(void)
{
	struct kvmi_conn *conn;
	unsigned int count;
	int pipefd[2];
	pid_t pid;

	conn = connect_peer(peer_late, &pid);
	kvmi_set_timeout(conn, 50);
	is_number(kvmi_get_vcpu_count(conn, &count), -ETIMEDOUT, "no reply in time");
	is_number(kvmi_failure(conn), KVMI_FAILURE_TIMEOUT, "which is a timeout");
	kvmi_set_timeout(conn, 2000);
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "the next command");
	is_number(count, 2, "does not get the late reply");
	disconnect(conn, pid, "late");

	conn = connect_peer(peer_late, &pid);
	if (pipe(pipefd) || write(pipefd[1], "x", 1) != 1)
		exit(2);
	kvmi_set_interrupt(conn, pipefd[0]);
	is_number(kvmi_get_vcpu_count(conn, &count), -EINTR, "interrupted");
	kvmi_set_interrupt(conn, -1);
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "not any more");
	disconnect(conn, pid, "interrupted");
	close(pipefd[0]);
	close(pipefd[1]);
}

static void peer_close(int sock)
{
	struct kvmi_msg_hdr hdr;

	read_command(sock, &hdr);
}

static void peer_reply_and_close(int sock)
{
	struct kvmi_vm_get_info_reply info = { .vcpu_count = 5 };
	struct kvmi_msg_hdr hdr;

	read_command(sock, &hdr);
	send_event(sock, 1, KVMI_VCPU_EVENT_HYPERCALL, 0, NULL, 0);
	send_reply(sock, &hdr, 0, &info, sizeof(info));
}

static void peer_half_and_close(int sock)
{
	struct kvmi_msg_hdr hdr;

	read_command(sock, &hdr);
	must_write(sock, &hdr, sizeof(hdr) / 2);
}

static void test_close(void)
{
	struct kvmi_event event;
	struct kvmi_conn *conn;
	unsigned int count;
	pid_t pid;

	conn = connect_peer(peer_close, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), -ECONNRESET, "KVM closes the socket");
	is_number(kvmi_failure(conn), KVMI_FAILURE_NO_VM, "the VM is gone");
	is_number(kvmi_get_vcpu_count(conn, &count), -ECONNRESET, "it stays so");
	is_number(kvmi_next_event(conn, &event, 10), -ECONNRESET, "no event either");
	disconnect(conn, pid, "close");

	conn = connect_peer(peer_reply_and_close, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "KVM replies and closes the socket");
	is_number(count, 5, "the reply counts");
	is_number(kvmi_next_event(conn, &event, 10), 1, "so does the event before it");
	is_number(kvmi_next_event(conn, &event, 10), -ECONNRESET, "then it is the end");
	disconnect(conn, pid, "reply and close");

	conn = connect_peer(peer_half_and_close, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), -ECONNRESET, "half a header");
	disconnect(conn, pid, "half a header");
}

static const struct {
	const char *name;
	__u16 id;
	__u16 size;
	__u8 data[16];
} nonsense[] = {
	{ "a message that is too long", KVMI_VM_GET_INFO, 8185, { 0 } },
	{ "the longest number", KVMI_VM_GET_INFO, 65535, { 0 } },
	{ "a reply without error code", KVMI_VM_GET_INFO, 4, { 0 } },
	{ "a positive error code", KVMI_VM_GET_INFO, 8, { 1 } },
	{ "an event without header", KVMI_VM_EVENT, 4, { 0 } },
	{ "a vCPU event that ends early", KVMI_VCPU_EVENT, 16, { KVMI_VCPU_EVENT_PAUSE } },
	{ "a vCPU event as a VM event", KVMI_VM_EVENT, 8, { KVMI_VCPU_EVENT_PAUSE } },
	{ "a VM event as a vCPU event", KVMI_VCPU_EVENT, 8, { KVMI_VM_EVENT_UNHOOK } },
};

static size_t nonsense_now;

static void peer_nonsense(int sock)
{
	struct kvmi_msg_hdr hdr;

	read_command(sock, &hdr);
	hdr.id = nonsense[nonsense_now].id;
	hdr.size = nonsense[nonsense_now].size;
	must_write(sock, &hdr, sizeof(hdr));
	must_write(sock, nonsense[nonsense_now].data, 16);
	must_read(sock, &hdr, sizeof(hdr));
	_exit(1);
}

static void test_nonsense(void)
{
	struct kvmi_conn *conn;
	unsigned int count;
	pid_t pid;

	for (nonsense_now = 0; nonsense_now < ARRAY_SIZE(nonsense); nonsense_now++) {
		conn = connect_peer(peer_nonsense, &pid);
		is_number(kvmi_get_vcpu_count(conn, &count), -EPROTO, nonsense[nonsense_now].name);
		is_number(kvmi_get_vcpu_count(conn, &count), -ECONNRESET, "ends the connection");
		disconnect(conn, pid, nonsense[nonsense_now].name);
	}
}

/* Events around a reply, one from a later KVM that has more to say */
static void peer_events(int sock)
{
	struct kvmi_vcpu_event_breakpoint bp = { .gpa = 0xabc000, .insn_len = 2 };
	struct kvmi_vm_get_info_reply info = { .vcpu_count = 1 };
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
		struct kvmi_vcpu_event common;
		__u8 more[16];
		__u8 payload[100];
	} later = {
		.hdr = {
			.id = KVMI_VCPU_EVENT,
			.seq = 13,
			.size = sizeof(later) - sizeof(later.hdr),
		},
		.event.event = KVMI_VCPU_EVENT_BREAKPOINT,
		.common = { .size = sizeof(later.common) + 16, .vcpu = 3 },
	};
	struct kvmi_msg_hdr hdr;
	__u8 reply[24];

	read_command(sock, &hdr);
	send_event(sock, 10, KVMI_VCPU_EVENT_HYPERCALL, 1, NULL, 0);
	send_event(sock, 11, KVMI_VCPU_EVENT_BREAKPOINT, 2, &bp, sizeof(bp));
	send_reply(sock, &hdr, 0, &info, sizeof(info));
	send_event(sock, 12, KVMI_VM_EVENT_UNHOOK, 0, NULL, 0);
	memcpy(later.payload, &bp, sizeof(bp));
	must_write(sock, &later, sizeof(later));

	/* The answer to the breakpoint */
	must_read(sock, reply, sizeof(reply));
	if (memcmp(reply, "\1\0\x10\0\x0b\0\0\0\2\0\0\0\0\0\0\0\1\5\0\0\0\0\0\0", 24))
		_exit(1);
}

static void test_events(void)
{
	struct kvmi_event event, breakpoint;
	struct kvmi_conn *conn;
	unsigned int count;
	pid_t pid;

	conn = connect_peer(peer_events, &pid);
	is_number(kvmi_get_vcpu_count(conn, &count), 0, "events come before the reply");

	is_number(kvmi_next_event(conn, &event, 2000), 1, "the first event");
	ok(event.id == KVMI_VCPU_EVENT_HYPERCALL && event.seq == 10 && event.vcpu == 1 &&
	   event.payload_size == 0 && event.arch.regs.rip == 0x40100a && event.arch.mode == 8,
	   "a hypercall");
	is_number(kvmi_next_event(conn, &breakpoint, 2000), 1, "the second event");
	ok(breakpoint.id == KVMI_VCPU_EVENT_BREAKPOINT && breakpoint.vcpu == 2 &&
	   breakpoint.breakpoint.gpa == 0xabc000 && breakpoint.breakpoint.insn_len == 2,
	   "a breakpoint with its payload");
	is_number(kvmi_next_event(conn, &event, 2000), 1, "the third event");
	ok(event.id == KVMI_VM_EVENT_UNHOOK && event.seq == 12, "unhook");
	is_number(kvmi_reply_event(conn, &event, 0, NULL, 0), 0, "gets no answer");
	is_number(kvmi_next_event(conn, &event, 2000), 1, "the fourth event");
	ok(event.vcpu == 3 && event.breakpoint.gpa == 0xabc000 && event.payload_size == 64,
	   "from a later KVM");
	is_number(kvmi_next_event(conn, &event, 20), 0, "and no other");
	is_number(kvmi_reply_event(conn, &breakpoint, KVMI_EVENT_ACTION_RETRY, NULL, 0), 0,
		  "answer the second one");
	disconnect(conn, pid, "events");
}

/* An event reply with data, byte by byte */
static void must_answer(int sock, const char *head, const char *value)
{
	__u8 reply[32];

	must_read(sock, reply, sizeof(reply));
	if (memcmp(reply, head, 24) || memcmp(reply + 24, value, 8))
		_exit(1);
}

static void peer_changes(int sock)
{
	static const char cr_head[] =
		"\1\0\x18\0\1\0\0\0\2\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0";
	static const char msr_head[] =
		"\1\0\x18\0\2\0\0\0\0\0\0\0\0\0\0\0\0\x0f\0\0\0\0\0\0";
	struct kvmi_vcpu_event_cr cr = { .cr = 4, .old_value = 0x11, .new_value = 0x2233 };
	struct kvmi_vcpu_event_msr msr = {
		.msr = 0xc0000082, .old_value = 0x44, .new_value = 0x5566,
	};
	int i;

	/* Each is continued first, then denied. */
	for (i = 0; i < 2; i++) {
		send_event(sock, 1, KVMI_VCPU_EVENT_CR, 2, &cr, sizeof(cr));
		must_answer(sock, cr_head, i ? "\x11\0\0\0\0\0\0" : "\x33\x22\0\0\0\0\0");
		send_event(sock, 2, KVMI_VCPU_EVENT_MSR, 0, &msr, sizeof(msr));
		must_answer(sock, msr_head, i ? "\x44\0\0\0\0\0\0" : "\x66\x55\0\0\0\0\0");
	}
	send_event(sock, 3, KVMI_VCPU_EVENT_HYPERCALL, 0, NULL, 0);
}

static void test_changes(void)
{
	int (*answers[])(struct kvmi_conn *conn, const struct kvmi_event *event) = {
		kvmi_continue_event, kvmi_deny_event,
	};
	struct kvmi_conn *conn;
	struct kvmi_event event;
	pid_t pid;
	int i;

	conn = connect_peer(peer_changes, &pid);
	for (i = 0; i < 2; i++) {
		is_number(kvmi_next_event(conn, &event, 2000), 1, "a control register changes");
		ok(event.cr.cr == 4 && event.cr.old_value == 0x11 && event.cr.new_value == 0x2233,
		   "from one value to the other");
		is_number(answers[i](conn, &event), 0, i ? "which is denied" : "which it may");
		is_number(kvmi_next_event(conn, &event, 2000), 1, "an MSR changes");
		ok(event.msr.msr == 0xc0000082 && event.msr.old_value == 0x44 &&
		   event.msr.new_value == 0x5566, "from one value to the other");
		is_number(answers[i](conn, &event), 0, i ? "which is denied" : "which it may");
	}
	is_number(kvmi_next_event(conn, &event, 2000), 1, "another event");
	is_number(kvmi_deny_event(conn, &event), -EINVAL, "cannot be denied");
	disconnect(conn, pid, "changes");
}

/* What the commands give that ask for something */
static void test_values(void)
{
	struct fake fake = { .vcpus = 2 };
	static struct kvm_xsave xsave;
	struct kvmi_conn *conn;
	__u64 value = 0;
	__u8 type = 0;
	pid_t pid;

	conn = connect_fake(&fake, &pid);
	is_number(kvmi_get_xcr(conn, 1, 0, &value), 0, "XCR0");
	is_number(value, 7, "its value");
	is_number(kvmi_get_xcr(conn, 1, 1, &value), -EINVAL, "XCR1");
	is_number(kvmi_get_xsave(conn, 1, &xsave), 0, "XSAVE");
	is_number(xsave.region[0], 0x37f, "the first bytes");
	is_number(xsave.region[1023], 0x09000000, "the last bytes");
	is_number(kvmi_set_xsave(conn, 1, &xsave), 0, "the same back");
	xsave.region[500] = 1;
	is_number(kvmi_set_xsave(conn, 1, &xsave), -EINVAL, "something else");
	is_number(kvmi_get_mtrr_type(conn, 0, 0x1000, &type), 0, "memory type");
	is_number(type, 6, "WB");
	is_number(kvmi_translate_gva(conn, 0, FAKE_CODE + 0x123, &value), 0, "translate");
	is_number(value, FAKE_CODE_GPA + 0x123, "an address");
	is_number(kvmi_translate_gva(conn, 0, 0x123, &value), 0, "translate what is not mapped");
	ok(value == KVMI_UNMAPPED, "no address");
	is_number(kvmi_control_msr(conn, 1, 0x1d9, true), -EINVAL, "an MSR");
	is_string(kvmi_strerror(conn), "MSR DEBUGCTL of vCPU 1 cannot be intercepted",
		  "has a name");
	is_number(kvmi_inject_exception(conn, 1, 14, 0, 0), -KVM_ENOSYS, "what is not there");
	is_string(kvmi_strerror(conn), "inject-exception: this kernel does not have it",
		  "has a name");
	disconnect(conn, pid, "values");
}

static void test_virtual(void)
{
	struct fake fake = { .vcpus = 1 };
	struct kvmi_conn *conn;
	__u8 data[0x1100];
	pid_t pid;

	conn = connect_fake(&fake, &pid);
	is_number(kvmi_read_virtual(conn, 0, FAKE_CODE, data, 6), 6, "read by virtual address");
	ok(!memcmp(data, "\x55\x90\x5d\x50\x58\x90", 6), "the bytes");
	is_number(kvmi_read_virtual(conn, 0, FAKE_CODE + 0xffe, data, 4), 4, "over two pages");
	ok(!memcmp(data, "\x48\x89\xe5\x90", 4), "the bytes");
	is_number(kvmi_read_virtual(conn, 0, FAKE_CODE + 0xffe, data, sizeof(data)), 0x1002,
		  "up to one that is not mapped");
	is_number(kvmi_read_virtual(conn, 0, FAKE_CODE + 0x3000, data, 4), 0,
		  "mapped to no memory");
	disconnect(conn, pid, "virtual");

	fake.denied = KVMI_VCPU_TRANSLATE_GVA;
	conn = connect_fake(&fake, &pid);
	is_number(kvmi_read_virtual(conn, 0, FAKE_CODE, data, 6), -EPERM, "not allowed");
	disconnect(conn, pid, "not allowed");
}

/* How many pages are sent in each message: the first failure is the end. */
static void peer_batches(int sock)
{
	static const struct {
		__u16 count;
		__u16 size;
		int err;
	} batches[] = { { 511, 8184, 0 }, { 511, 8184, 0 }, { 1, 24, 0 },
			{ 511, 8184, -KVM_EINVAL } };
	struct kvmi_vm_set_page_access req;
	__u64 next = 0x1000, gpa;
	struct kvmi_msg_hdr hdr;
	__u8 data[KVMI_MSG_SIZE];
	unsigned int i, b;

	for (b = 0; b < ARRAY_SIZE(batches); b++) {
		must_read(sock, &hdr, sizeof(hdr));
		must_read(sock, data, hdr.size);
		memcpy(&req, data, sizeof(req));
		if (hdr.id != KVMI_VM_SET_PAGE_ACCESS || hdr.size != batches[b].size ||
		    req.count != batches[b].count)
			_exit(1);
		if (b == 3)
			next = 0x1000;
		for (i = 0; i < req.count; i++, next += 0x1000) {
			memcpy(&gpa, data + sizeof(req) + 16 * i, sizeof(gpa));
			if (gpa != next)
				_exit(1);
		}
		send_reply(sock, &hdr, batches[b].err, NULL, 0);
	}
}

static void test_batches(void)
{
	static struct kvmi_page_access_entry pages[1023];
	struct kvmi_conn *conn;
	size_t i;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = (struct kvmi_page_access_entry){ .gpa = (i + 1) << 12, .access = 1 };
	conn = connect_peer(peer_batches, &pid);
	is_number(kvmi_set_page_access(conn, pages, 1023), 0, "1023 pages in three messages");
	is_number(kvmi_set_page_access(conn, pages, 1023), -EINVAL, "the first one fails");
	is_string(kvmi_strerror(conn), "set-page-access: Invalid argument", "it says so");
	is_number(kvmi_set_page_access(conn, pages, 0), 0, "no pages, no message");
	disconnect(conn, pid, "batches");
}

struct walk {
	struct kvmi_mapping seen[8];
	unsigned int nr;
	unsigned int stop;
};

static int see(void *arg, const struct kvmi_mapping *mapping)
{
	struct walk *walk = arg;

	walk->seen[walk->nr++] = *mapping;
	return walk->nr == walk->stop ? 77 : 0;
}

static bool is_mapping(const struct kvmi_mapping *got, __u64 gva, __u64 at, __u64 size,
		       bool write, bool exec)
{
	return got->gva == gva && got->gpa == FAKE_KERNEL_GPA + at && got->size == size &&
	       got->write == write && got->exec == exec;
}

static void test_walk(void)
{
	const __u64 text = FAKE_KERNEL, data = FAKE_KERNEL + KERNEL_DATA_AT;
	struct fake_kernel kernel = { .levels = 4 };
	struct fake fake = { .vcpus = 1, .kernel = &kernel };
	struct kvmi_vcpu_event_arch state;
	struct kvmi_conn *conn;
	struct walk walk;
	pid_t pid;

	for (kernel.levels = 4; kernel.levels <= 5; kernel.levels++) {
		conn = connect_fake(&fake, &pid);
		is_number(kvmi_get_registers(conn, 0, &state, NULL, 0), 0, "page tables");
		walk = (struct walk){ 0 };
		is_number(kvmi_walk(conn, &state.sregs, text + 5, text + 0x200000, see, &walk), 0,
			  "walk");
		ok(walk.nr == 2 && is_mapping(&walk.seen[0], text + 5, 5, 0x1ffffb, false, true) &&
		   is_mapping(&walk.seen[1], text + 0x200000, 0x200000, 1, false, true),
		   "a large page and a small one, as far as they were asked for");
		walk = (struct walk){ .stop = 1 };
		is_number(kvmi_walk(conn, &state.sregs, data + 0x1fffff, -1, see, &walk), 77,
			  "the end of a page, stopped");
		ok(walk.nr == 1 && is_mapping(&walk.seen[0], data + 0x1fffff,
					      KERNEL_DATA_AT + 0x1fffff, 1, true, false),
		   "which can be written");
		state.sregs.efer &= ~0x800ULL;
		walk = (struct walk){ 0 };
		is_number(kvmi_walk(conn, &state.sregs, data, data, see, &walk), 0,
			  "without execute-disable");
		ok(walk.nr == 1 && walk.seen[0].exec, "everything can be executed");
		walk = (struct walk){ 0 };
		is_number(kvmi_walk(conn, &state.sregs, 0, 0x7fffffffffff, see, &walk), 0,
			  "the lower half");
		is_number(walk.nr, 0, "has nothing");
		state.sregs.cr3 = 0x7000000;
		is_number(kvmi_walk(conn, &state.sregs, text, text, see, &walk), 0,
			  "tables where there is no memory");
		is_number(walk.nr, 0, "map nothing");
		state.sregs.efer = 0;
		is_number(kvmi_walk(conn, &state.sregs, text, text, see, &walk), -EINVAL,
			  "not in 64-bit mode");
		disconnect(conn, pid, "walk");
	}

	kernel.levels = 4;
	kernel.maze = true;
	conn = connect_fake(&fake, &pid);
	is_number(kvmi_get_registers(conn, 0, &state, NULL, 0), 0, "a maze of page tables");
	walk = (struct walk){ 0 };
	is_number(kvmi_walk(conn, &state.sregs, 0, 0x7fffffffffff, see, &walk), -E2BIG,
		  "it takes too long");
	is_number(walk.nr, 0, "and maps nothing");
	is_number(kvmi_walk(conn, &state.sregs, FAKE_KERNEL, FAKE_KERNEL, see, &walk), 0,
		  "another range does not go through it");
	is_number(walk.nr, 1, "and is mapped");
	disconnect(conn, pid, "maze");
}

static void test_memory(void)
{
	static __u8 data[40 * 4096];
	struct fake fake = { .vcpus = 1 };
	struct kvmi_conn *conn;
	bool present[41], good;
	__u64 gpa;
	size_t i;
	pid_t pid;
	int round;

	for (round = 0; round < 3; round++) {
		static const char * const names[] = { "memory", "slow memory", "with events" };

		fake.slow = round == 1;
		fake.stray = round == 2;
		conn = connect_fake(&fake, &pid);

		/* From before the hole, to its middle, neither at the edge of a page */
		gpa = FAKE_HOLE - 3 * 4096 - 5;
		is_number(kvmi_read_memory(conn, gpa, data, 6 * 4096, present), 0, names[round]);
		good = true;
		for (i = 0; i < 6 * 4096; i++)
			good &= data[i] == (fake_present(gpa + i) ? fake_byte(gpa + i) : 0);
		ok(good, "every byte, zeroes in the hole");
		ok(present[0] && present[3] && !present[4] && !present[5] && !present[6],
		   "which pages are there");

		/* More than is under way at a time */
		gpa = FAKE_HOLE_END;
		is_number(kvmi_read_memory(conn, gpa, data, sizeof(data), present), 0, "40 pages");
		good = true;
		for (i = 0; i < sizeof(data); i++)
			good &= data[i] == fake_byte(gpa + i);
		ok(good, "every byte");
		is_number(kvmi_read_memory(conn, 0, data, 0, present), 0, "nothing");
		disconnect(conn, pid, names[round]);
	}

	fake = (struct fake){ .vcpus = 1, .denied = KVMI_VM_READ_PHYSICAL };
	conn = connect_fake(&fake, &pid);
	is_number(kvmi_read_memory(conn, 0, data, 4 * 4096, present), -EPERM, "not allowed");
	is_number(kvmi_get_max_gfn(conn, &gpa), 0, "its other replies do no harm");
	disconnect(conn, pid, "not allowed");

	fake = (struct fake){ .vcpus = 1, .close_after = 20 };
	conn = connect_fake(&fake, &pid);
	is_number(kvmi_read_memory(conn, 0, data, sizeof(data), present), -ECONNRESET,
		  "the end in the middle");
	disconnect(conn, pid, "the end in the middle");
}

static void test_pause(void)
{
	struct fake fake = { .vcpus = 4, .stopped = 1 << 2 };
	struct kvmi_vcpu_event_arch state;
	struct kvmi_event event;
	struct kvmi_conn *conn;
	pid_t pid;

	conn = connect_fake(&fake, &pid);
	is_number(kvmi_pause(conn, -1), 0, "pause all");
	is_number(kvmi_wait_paused(conn, 100), 1, "one of them does not run");
	ok(kvmi_is_paused(conn, 0) && kvmi_is_paused(conn, 1) && !kvmi_is_paused(conn, 2) &&
	   kvmi_is_paused(conn, 3) && !kvmi_is_paused(conn, 4), "the others are paused");
	is_number(kvmi_pause(conn, -1), 0, "pause again: it is asked once");
	is_number(kvmi_get_registers(conn, 3, &state, NULL, 0), 0, "registers of a paused one");
	is_number(state.regs.rip, 0xffffffff81000003, "are its own");
	is_number(kvmi_resume(conn), 0, "resume");
	ok(!kvmi_is_paused(conn, 0), "not paused any more");
	is_number(kvmi_next_event(conn, &event, 50), 0, "the events were none of the caller's");
	is_number(kvmi_pause(conn, 1), 0, "pause one");
	is_number(kvmi_wait_paused(conn, 100), 1, "which leaves the one that does not run");
	ok(kvmi_is_paused(conn, 1) && !kvmi_is_paused(conn, 0), "only that one");
	is_number(kvmi_resume(conn), 0, "resume");
	is_number(kvmi_pause_vcpu(conn, 0, false), 0, "the command itself");
	is_number(kvmi_next_event(conn, &event, 2000), 1, "gives an event");
	is_number(event.id, KVMI_VCPU_EVENT_PAUSE, "for the caller");
	is_number(kvmi_reply_event(conn, &event, 0, NULL, 0), 0, "to answer");
	disconnect(conn, pid, "pause");
}

/* A peer that does not read: nothing may block for ever. */
static void peer_deaf(int sock)
{
	char c;

	(void)sock;
	/* Until the test is over: its end of the pipe is standard input's. */
	if (read(STDIN_FILENO, &c, 1))
		_exit(0);
}

static void test_deaf(void)
{
	struct kvmi_conn *conn;
	__u8 data[4096] = { 0 };
	int i, r = 0, saved = dup(STDIN_FILENO), pipefd[2];
	pid_t pid;

	if (pipe(pipefd))
		exit(2);
	dup2(pipefd[0], STDIN_FILENO);
	conn = connect_peer(peer_deaf, &pid);
	kvmi_set_timeout(conn, 5);
	/* More than any socket takes */
	for (i = 0; i < 300 && (!r || r == -ETIMEDOUT); i++)
		r = kvmi_write_physical(conn, 0, data, sizeof(data));
	is_number(r, -ETIMEDOUT, "a socket that is full does not block");
	if (write(pipefd[1], "x", 1) != 1)
		exit(2);
	disconnect(conn, pid, "deaf");
	dup2(saved, STDIN_FILENO);
	close(saved);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_adopt(void)
{
	struct kvmi_conn *conn = kvmi_new();
	struct kvmi_vm vm;
	int pair[2];

	is_number(kvmi_adopt(conn, 12345), -EINVAL, "no file descriptor");
	is_number(kvmi_adopt(conn, STDERR_FILENO), -EINVAL, "no socket");
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
		exit(2);
	is_number(kvmi_adopt(conn, pair[0]), -EINVAL, "no stream socket");
	close(pair[0]);
	close(pair[1]);
	is_number(kvmi_check_command(conn, 2), -ECONNRESET, "not connected");

	is_number(kvmi_find_vm(conn, "2147483647", &vm), -ESRCH, "no process");
	is_number(kvmi_failure(conn), KVMI_FAILURE_NO_VM, "no VM");
	is_number(kvmi_find_vm(conn, "99999999999999999999", &vm), -ESRCH, "no number");
	vm = (struct kvmi_vm){ .pid = getpid(), .fd = STDERR_FILENO };
	is_number(kvmi_attach(conn, &vm), -EBADF, "a file that is no VM");
	is_number(kvmi_failure(conn), KVMI_FAILURE_NO_VM, "no VM");
	vm.pid = 2147483647;
	is_number(kvmi_attach(conn, &vm), -ESRCH, "attach to no process");
	kvmi_free(conn);
}

void test_library(void)
{
	test_wires();
	test_replies();
	test_timeout();
	test_close();
	test_nonsense();
	test_events();
	test_changes();
	test_values();
	test_memory();
	test_batches();
	test_walk();
	test_virtual();
	test_pause();
	test_deaf();
	test_adopt();
}
