// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: frames, good, bad and odd ones, and what they do to the
 * connection.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

KVMI_TEST_SUITE(kvmi_framing, 1);

static void guest_hypercall_loop(void)
{
	for (;;) {
		kvmi_guest_hypercall();
		GUEST_SYNC(1);
	}
}

static void start_with_event(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			     struct kvmi_runner *runner, struct kvmi_ev *ev)
{
	vcpu_arch_set_entry_point(vcpu, guest_hypercall_loop);
	kvmi_enable_and_start(tool, runner, vcpu, KVMI_VCPU_EVENT_HYPERCALL);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, ev);
}

/* Ids that KVM does not know: an error, and the connection stays. */
TEST_F(kvmi_framing, unknown_ids)
{
	static const u16 unknown[] = {
		KVMI_VM_EVENT, 30, 31, 32, 100, 1000, 0x7fff, 0xfffe, 0xffff,
	};
	u8 data[64];
	int i;

	memset(data, 0xff, sizeof(data));
	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		struct kvmi_vm_check_command cmd = { .id = unknown[i] };

		TEST_ASSERT_EQ(kvmi_cmd(self->tool, unknown[i], NULL, 0, NULL, 0), -KVM_ENOSYS);
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, unknown[i], data, sizeof(data), NULL, 0),
			       -KVM_ENOSYS);
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_COMMAND, &cmd,
					sizeof(cmd), NULL, 0), -KVM_ENOENT);
	}
	kvmi_check_version(self->tool);
}

/* A short request is as if it ended with zeroes. */
TEST_F(kvmi_framing, short_requests)
{
	struct kvmi_vm_control_events events = {
		.event_id = KVMI_VM_EVENT_UNHOOK,
		.enable = 1,
	};
	struct kvmi_vm_check_command check = { .id = KVMI_VM_GET_INFO };
	struct kvmi_vcpu_get_cpuid_reply cpuid;
	static const u8 zero[16];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	for (i = 0; i <= sizeof(check); i++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_COMMAND, &check, i, NULL, 0),
			       i < 1 ? -KVM_ENOENT : 0);

	for (i = 0; i <= sizeof(events); i++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_EVENTS, &events, i,
					NULL, 0), 0);

	/* vCPU 0, leaf 0. */
	start_with_event(self->tool, self->vcpu[0], &runner, &ev);
	for (i = 0; i <= 16; i++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VCPU_GET_CPUID, zero, i,
					&cpuid, sizeof(cpuid)), 0);
	TEST_ASSERT(cpuid.eax >= 1, "Leaf 0 says there is no other");
	kvmi_stop(&runner);
}

/* Surplus bytes are ignored, whatever they are, up to the largest message. */
TEST_F(kvmi_framing, long_requests)
{
	struct kvmi_vm_get_info_reply info;
	u8 data[KVMI_MSG_SIZE] = {};
	static const size_t sizes[] = { 1, 7, 8, 9, 15, 17, 4095, 4096, 8183, KVMI_MSG_SIZE };
	int i;

	memset(data + 8, 0xff, sizeof(data) - 8);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_INFO, data + 8,
					min_t(size_t, sizes[i], sizeof(data) - 8),
					&info, sizeof(info)), 0);
		TEST_ASSERT_EQ(info.vcpu_count, 1);
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_EVENTS, data, sizes[i],
					NULL, 0), 0);
	}
}

TEST_F(kvmi_framing, oversize_closes)
{
	struct kvmi_msg_hdr hdr = {
		.id = KVMI_GET_VERSION,
		.size = KVMI_MSG_SIZE + 1,
	};

	kvmi_write(self->tool, &hdr, sizeof(hdr));
	kvmi_expect_closed(self->tool);
}

TEST_F(kvmi_framing, largest_size_closes)
{
	struct kvmi_msg_hdr hdr = { .id = 0xffff, .size = 0xffff };

	kvmi_write(self->tool, &hdr, sizeof(hdr));
	kvmi_expect_closed(self->tool);
}

/* One byte a write. */
TEST_F(kvmi_framing, byte_by_byte)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_check_command req;
	} msg = {
		.hdr.id = KVMI_VM_CHECK_COMMAND,
		.hdr.size = sizeof(msg.req),
		.req.id = KVMI_VM_GET_INFO,
	};
	int i, round;

	for (round = 0; round < 20; round++) {
		msg.hdr.seq = 0xabcd0000 + round;
		for (i = 0; i < sizeof(msg); i++) {
			kvmi_write(self->tool, (u8 *)&msg + i, 1);
			if (!round)
				usleep(1000);
		}
		TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VM_CHECK_COMMAND,
					       msg.hdr.seq, NULL, 0, NULL), 0);
	}
}

/* The same for the reply to an event, and with the vCPU interrupted meanwhile. */
TEST_F(kvmi_framing, reply_byte_by_byte)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
	} msg = {
		.hdr.id = KVMI_VCPU_EVENT,
		.hdr.size = sizeof(msg.vcpu) + sizeof(msg.reply),
		.reply.event = KVMI_VCPU_EVENT_HYPERCALL,
	};
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, round;

	start_with_event(self->tool, self->vcpu[0], &runner, &ev);
	for (round = 0; round < 10; round++) {
		msg.hdr.seq = ev.hdr.seq;
		for (i = 0; i < sizeof(msg); i++) {
			kvmi_write(self->tool, (u8 *)&msg + i, 1);
			if (round == 5 && (i & 3) == 2 && i < 20)
				kvmi_interrupt(&runner);
		}
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	}
	kvmi_stop(&runner);
}

/* Many messages in one write; odd sizes leave the next one unaligned. */
TEST_F(kvmi_framing, many_in_one_write)
{
	static u8 frames[65536];
	struct kvmi_get_version_reply version;
	struct kvmi_msg_hdr hdr = { .id = KVMI_GET_VERSION };
	int round, i, nr;
	size_t len;

	for (round = 0; round < 8; round++) {
		len = 0;
		for (nr = 0; nr < 500; nr++) {
			hdr.size = (nr * 7 + round) % 64;
			hdr.seq = nr;
			memcpy(frames + len, &hdr, sizeof(hdr));
			memset(frames + len + sizeof(hdr), 0xee, hdr.size);
			len += sizeof(hdr) + hdr.size;
		}
		kvmi_write(self->tool, frames, len);
		for (i = 0; i < nr; i++)
			TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_GET_VERSION, i,
						       &version, sizeof(version), NULL), 0);
	}
	kvmi_expect_quiet(self->tool);
}

/* The same while a vCPU waits, which reads the socket then. */
TEST_F(kvmi_framing, many_in_one_write_while_waiting)
{
	struct {
		struct kvmi_msg_hdr info_hdr;
		struct kvmi_msg_hdr vcpu_hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_msg_hdr odd_hdr;
		u8 odd[3];
	} __packed frames[100] = {};
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
		u8 data[16];
	} rpl;
	bool seen[3 * ARRAY_SIZE(frames)];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, round;

	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		frames[i].info_hdr.id = KVMI_VM_GET_INFO;
		frames[i].info_hdr.seq = 3 * i;
		frames[i].vcpu_hdr.id = KVMI_VCPU_GET_INFO;
		frames[i].vcpu_hdr.size = sizeof(frames[i].vcpu);
		frames[i].vcpu_hdr.seq = 3 * i + 1;
		frames[i].odd_hdr.id = 1000;
		frames[i].odd_hdr.size = sizeof(frames[i].odd);
		frames[i].odd_hdr.seq = 3 * i + 2;
	}

	start_with_event(self->tool, self->vcpu[0], &runner, &ev);
	for (round = 0; round < 5; round++) {
		memset(seen, 0, sizeof(seen));
		kvmi_write(self->tool, frames, sizeof(frames));

		/* Each reply once; those of VM and vCPU commands in any order. */
		for (i = 0; i < ARRAY_SIZE(seen); i++) {
			TEST_ASSERT(kvmi_recv(self->tool, &rpl.hdr, &rpl.ec,
					      sizeof(rpl.ec) + sizeof(rpl.data)), "Closed");
			TEST_ASSERT(rpl.hdr.seq < ARRAY_SIZE(seen) && !seen[rpl.hdr.seq],
				    "Reply %u came twice", rpl.hdr.seq);
			seen[rpl.hdr.seq] = true;
			TEST_ASSERT_EQ(rpl.ec.err, rpl.hdr.seq % 3 == 2 ? -KVM_ENOSYS : 0);
		}
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	}
	kvmi_stop(&runner);
}

/* Event replies that are none: each closes the connection, the guest goes on. */
static void make_reply(const struct kvmi_ev *ev, u8 frame[64], size_t *len)
{
	struct kvmi_msg_hdr hdr = {
		.id = KVMI_VCPU_EVENT,
		.size = sizeof(struct kvmi_vcpu_hdr) + sizeof(struct kvmi_vcpu_event_reply),
		.seq = ev->hdr.seq,
	};
	struct kvmi_vcpu_event_reply reply = { .event = ev->event.event };

	memset(frame, 0, 64);
	memcpy(frame, &hdr, sizeof(hdr));
	memcpy(frame + 16, &reply, sizeof(reply));
	*len = sizeof(hdr) + hdr.size;
}

TEST_F(kvmi_framing, bad_replies)
{
	enum { SEQ, SHORT, EMPTY, LONG, VCPU, VCPU_PAD1, VCPU_PAD2, EVENT, ACTION,
	       ACTION_RETRY, PAD1, PAD2, TWICE, NR };
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u8 frame[64];
	size_t len;
	int bad;

	for (bad = 0; bad < NR; bad++) {
		start_with_event(self->tool, self->vcpu[0], &runner, &ev);
		make_reply(&ev, frame, &len);

		switch (bad) {
		case SEQ:
			frame[4]++;
			break;
		case SHORT:
			frame[2]--;
			len--;
			break;
		case EMPTY:
			frame[2] = 0;
			len = 8;
			break;
		case LONG:
			frame[2]++;
			len++;
			break;
		case VCPU:
			frame[8] = 1;
			break;
		case VCPU_PAD1:
			frame[10] = 1;
			break;
		case VCPU_PAD2:
			frame[15] = 1;
			break;
		case EVENT:
			frame[17] = KVMI_VCPU_EVENT_PAUSE;
			break;
		case ACTION:
			frame[16] = 3;
			break;
		case ACTION_RETRY:
			frame[16] = KVMI_EVENT_ACTION_RETRY;
			break;
		case PAD1:
			frame[18] = 1;
			break;
		case PAD2:
			frame[23] = 1;
			break;
		case TWICE:
			/* The second one answers nothing. */
			kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 0);
			kvmi_write(self->tool, frame, len);
			break;
		}
		kvmi_write(self->tool, frame, len);
		kvmi_expect_closed(self->tool);

		/* As CONTINUE. */
		kvmi_wait_sync(&runner, 3);
		kvmi_stop(&runner);

		kvmi_unhook(self->vm);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

/* A reply while nothing waits. */
TEST_F(kvmi_framing, stray_reply)
{
	struct kvmi_ev ev = {
		.hdr.seq = 1,
		.event.event = KVMI_VCPU_EVENT_HYPERCALL,
	};

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_closed(self->tool);
}

/* Data that is shorter than the header says it is: KVM waits for the rest. */
TEST_F(kvmi_framing, incomplete)
{
	struct kvmi_msg_hdr hdr = { .id = KVMI_GET_VERSION, .size = 4, .seq = 5 };
	struct kvmi_get_version_reply version;

	kvmi_write(self->tool, &hdr, sizeof(hdr));
	kvmi_expect_quiet(self->tool);
	kvmi_write(self->tool, "abcd", 4);
	TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_GET_VERSION, 5, &version,
				       sizeof(version), NULL), 0);

	/* The end comes in the middle of a message. */
	kvmi_write(self->tool, &hdr, sizeof(hdr) - 1);
	shutdown(self->tool->fd, SHUT_WR);
	kvmi_expect_closed(self->tool);
}

/*
 * A tool that does not read: what KVM has to say does not fit into the socket.
 * Nothing is lost, nothing is torn, and nobody waits in KVM for it but the tool.
 */
static void test_slow_tool(struct kvm_vm *vm, struct kvmi_tool *tool)
{
	struct kvmi_vm_read_physical req = { .gpa = 0x1000, .size = 4096 };
	u8 *page = addr_gpa2hva(vm, 0x1000);
	int sent = 0, part = 0, i, r, flags;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_read_physical req;
	} msg = {
		.hdr.id = KVMI_VM_READ_PHYSICAL,
		.hdr.size = sizeof(req),
		.req = req,
	};
	u8 data[4096];

	for (i = 0; i < 4096; i++)
		page[i] = i * 13;

	/* Ask until KVM does not take more. */
	flags = fcntl(tool->fd, F_GETFL);
	fcntl(tool->fd, F_SETFL, flags | O_NONBLOCK);
	for (i = 0; i < 300 && sent < 100000;) {
		msg.hdr.seq = sent;
		r = send(tool->fd, (u8 *)&msg + part, sizeof(msg) - part, MSG_NOSIGNAL);
		if (r > 0) {
			part = (part + r) % sizeof(msg);
			sent += !part;
			i = 0;
			continue;
		}
		TEST_ASSERT(r < 0 && errno == EAGAIN, "send %d errno %d", r, errno);
		usleep(1000);
		i++;
	}
	fcntl(tool->fd, F_SETFL, flags);
	TEST_ASSERT(sent > 10 && sent < 100000, "%d commands were taken", sent);

	for (i = 0; i < sent; i++) {
		TEST_ASSERT_EQ(kvmi_recv_reply(tool, KVMI_VM_READ_PHYSICAL, i, data,
					       sizeof(data), NULL), 0);
		TEST_ASSERT(!memcmp(data, page, sizeof(data)), "Reply %d is torn", i);
	}
	if (part) {
		kvmi_write(tool, (u8 *)&msg + part, sizeof(msg) - part);
		TEST_ASSERT_EQ(kvmi_recv_reply(tool, KVMI_VM_READ_PHYSICAL, sent, data,
					       sizeof(data), NULL), 0);
	}
	kvmi_check_version(tool);
}

TEST_F(kvmi_framing, tool_does_not_read)
{
	test_slow_tool(self->vm, self->tool);
}

/* With the smallest buffer every reply is written in pieces. */
TEST_F(kvmi_framing, small_socket_buffer)
{
	int fds[2], small = 1;
	struct kvmi_tool *tool;

	kvmi_unhook(self->vm);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
	TEST_ASSERT(!setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
		    "SO_SNDBUF");
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_ATTACH, fds[0], 0), 0);
	tool = kvmi_adopt(self->vm, fds[1]);
	test_slow_tool(self->vm, tool);
	kvmi_free(tool);
}

/* A vCPU whose event does not fit is interruptible, and the event not lost. */
TEST_F(kvmi_framing, event_does_not_fit)
{
	struct kvmi_vm_read_physical req = { .gpa = 0x1000, .size = 4096 };
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u8 data[4096];
	u32 seq = 0;
	int i;

	start_with_event(self->tool, self->vcpu[0], &runner, &ev);

	/* Enough to fill any buffer, but not read. */
	for (i = 0; i < 200; i++)
		seq = kvmi_send(self->tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req));
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	usleep(KVMI_QUIET_MS * 1000);
	kvmi_interrupt(&runner);

	for (i = 199; i >= 0; i--)
		TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VM_READ_PHYSICAL, seq - i,
					       data, sizeof(data), NULL), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_sync(&runner, 2);
	kvmi_stop(&runner);
}

/* PREUNHOOK and UNHOOK must not wait for such a tool. */
TEST_F(kvmi_framing, unhook_tool_that_does_not_read)
{
	struct kvmi_vm_read_physical req = { .gpa = 0x1000, .size = 4096 };
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, ms = KVMI_TIMEOUT_MS;

	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 1), 0);
	start_with_event(self->tool, self->vcpu[0], &runner, &ev);
	for (i = 0; i < 200; i++)
		kvmi_send(self->tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req));

	/* As soon as the replies have filled the socket. */
	while (kvmi_preunhook_errno(self->vm) != ENOENT) {
		TEST_ASSERT(ms--, "PREUNHOOK does not see that the tool does not read");
		usleep(1000);
	}
	kvmi_unhook(self->vm);
	kvmi_wait_sync(&runner, 2);
	kvmi_stop(&runner);
}

static void make_tcp_pair(int fds[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int small = 16384;

	/* Else the buffers grow to megabytes. */
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	TEST_ASSERT(listener >= 0 && !bind(listener, (void *)&addr, sizeof(addr)) &&
		    !listen(listener, 1) && !getsockname(listener, (void *)&addr, &len),
		    "TCP: %s", strerror(errno));
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	TEST_ASSERT(!connect(fds[1], (void *)&addr, sizeof(addr)), "connect: %s",
		    strerror(errno));
	fds[0] = accept(listener, NULL, NULL);
	TEST_ASSERT(fds[0] >= 0, "accept");
	close(listener);
}

/* Any stream socket will do. */
TEST_F(kvmi_framing, tcp)
{
	struct kvmi_runner runner;
	struct kvmi_tool *tool;
	struct kvmi_ev ev;
	int fds[2], i;

	kvmi_unhook(self->vm);
	make_tcp_pair(fds);
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_ATTACH, fds[0], 0), 0);
	close(fds[0]);
	tool = kvmi_adopt(self->vm, fds[1]);
	test_slow_tool(self->vm, tool);

	start_with_event(tool, self->vcpu[0], &runner, &ev);
	for (i = 0; i < 20; i++) {
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	}
	kvmi_free(tool);
	kvmi_wait_sync(&runner, 22);
	kvmi_stop(&runner);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
