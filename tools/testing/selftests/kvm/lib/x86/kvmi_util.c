// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tool's side of KVM introspection, for tests.
 */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvmi_util.h"
#include "test_util.h"
#include "ucall_common.h"

int kvmi_hook_errno(struct kvm_vm *vm, unsigned long cmd, int fd, u32 padding)
{
	struct kvm_introspection_hook hook = {
		.fd = fd,
		.padding = padding,
		.uuid = "kvmi selftest",
	};

	return ioctl(vm->fd, cmd, &hook) ? errno : 0;
}

int kvmi_feature_errno(struct kvm_vm *vm, unsigned long cmd, s32 id, u32 allow)
{
	struct kvm_introspection_feature feature = {
		.allow = allow,
		.id = id,
	};

	return ioctl(vm->fd, cmd, &feature) ? errno : 0;
}

int kvmi_unhook_errno(struct kvm_vm *vm)
{
	return __vm_ioctl(vm, KVM_INTROSPECTION_UNHOOK, NULL) ? errno : 0;
}

int kvmi_preunhook_errno(struct kvm_vm *vm)
{
	return __vm_ioctl(vm, KVM_INTROSPECTION_PREUNHOOK, NULL) ? errno : 0;
}

void kvmi_unhook(struct kvm_vm *vm)
{
	TEST_ASSERT_EQ(kvmi_unhook_errno(vm), 0);
}

/* Take a connected socket as the tool's end. */
struct kvmi_tool *kvmi_adopt(struct kvm_vm *vm, int fd)
{
	struct kvmi_tool *tool = calloc(1, sizeof(*tool));

	TEST_ASSERT(tool, "No memory");
	tool->vm = vm;
	tool->fd = fd;
	tool->seq = 0x1000;
	INIT_LIST_HEAD(&tool->events);

	return tool;
}

static struct kvmi_tool *kvmi_connect(struct kvm_vm *vm, unsigned long cmd)
{
	int fds[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair: %s",
		    strerror(errno));
	TEST_ASSERT_EQ(kvmi_hook_errno(vm, cmd, fds[0], 0), 0);
	close(fds[0]);

	return kvmi_adopt(vm, fds[1]);
}

/* Nothing but the commands that are always allowed. */
struct kvmi_tool *kvmi_hook_bare(struct kvm_vm *vm)
{
	return kvmi_connect(vm, KVM_INTROSPECTION_HOOK);
}

struct kvmi_tool *kvmi_hook(struct kvm_vm *vm)
{
	struct kvmi_tool *tool = kvmi_hook_bare(vm);

	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, -1, 1), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_EVENT, -1, 1), 0);

	return tool;
}

struct kvmi_tool *kvmi_attach(struct kvm_vm *vm)
{
	return kvmi_connect(vm, KVM_INTROSPECTION_ATTACH);
}

/* As if the tool was killed. */
void kvmi_close(struct kvmi_tool *tool)
{
	if (tool->fd >= 0)
		close(tool->fd);
	tool->fd = -1;
}

void kvmi_free(struct kvmi_tool *tool)
{
	struct kvmi_ev *ev, *tmp;

	kvmi_close(tool);
	list_for_each_entry_safe(ev, tmp, &tool->events, entry)
		free(ev);
	free(tool);
}

void kvmi_write(struct kvmi_tool *tool, const void *data, size_t len)
{
	ssize_t r;

	while (len) {
		r = send(tool->fd, data, len, MSG_NOSIGNAL);
		TEST_ASSERT(r > 0, "send: %s", strerror(errno));
		data += r;
		len -= r;
	}
}

/* Returns the sequence number. */
u32 kvmi_send(struct kvmi_tool *tool, u16 id, const void *data, size_t len)
{
	struct kvmi_msg_hdr hdr = {
		.id = id,
		.size = len,
		.seq = ++tool->seq,
	};
	u8 frame[sizeof(hdr) + len];

	memcpy(frame, &hdr, sizeof(hdr));
	if (len)
		memcpy(frame + sizeof(hdr), data, len);
	kvmi_write(tool, frame, sizeof(frame));

	return hdr.seq;
}

bool kvmi_readable(struct kvmi_tool *tool, int timeout_ms)
{
	struct pollfd pfd = { .fd = tool->fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) > 0;
}

/* Returns false if the connection is closed. */
bool kvmi_read(struct kvmi_tool *tool, void *data, size_t len)
{
	ssize_t r;

	while (len) {
		TEST_ASSERT(kvmi_readable(tool, KVMI_TIMEOUT_MS),
			    "Nothing came from KVM, %zu bytes are missing", len);
		r = recv(tool->fd, data, len, 0);
		if (!r || (r < 0 && errno == ECONNRESET))
			return false;
		TEST_ASSERT(r > 0, "recv: %s", strerror(errno));
		data += r;
		len -= r;
	}

	return true;
}

/* Returns false if the connection is closed. */
bool kvmi_recv(struct kvmi_tool *tool, struct kvmi_msg_hdr *hdr, void *data,
	       size_t size)
{
	if (!kvmi_read(tool, hdr, sizeof(*hdr)))
		return false;

	TEST_ASSERT(hdr->size <= size, "Message %u of %u bytes, expected %zu at most",
		    hdr->id, hdr->size, size);
	return kvmi_read(tool, data, hdr->size);
}

void kvmi_expect_quiet(struct kvmi_tool *tool)
{
	TEST_ASSERT(list_empty(&tool->events), "Unexpected event");
	TEST_ASSERT(!kvmi_readable(tool, KVMI_QUIET_MS), "Unexpected message");
}

void kvmi_expect_closed(struct kvmi_tool *tool)
{
	u8 byte;

	TEST_ASSERT(!kvmi_read(tool, &byte, 1), "KVM did not close the connection");
}

static void kvmi_check_event(const struct kvmi_ev *ev)
{
	static const u8 zero[8];

	TEST_ASSERT(!memcmp(ev->event.padding, zero, sizeof(ev->event.padding)),
		    "Padding of the event header");
	if (ev->hdr.id == KVMI_VM_EVENT) {
		TEST_ASSERT_EQ(ev->hdr.size, sizeof(ev->event));
		return;
	}

	TEST_ASSERT(ev->hdr.size >= KVMI_EVENT_SIZE, "Event of %u bytes", ev->hdr.size);
	TEST_ASSERT_EQ(ev->common.size, sizeof(ev->common));
	TEST_ASSERT_EQ(ev->common.padding, 0);
	TEST_ASSERT(!memcmp(ev->common.arch.padding, zero,
			    sizeof(ev->common.arch.padding)), "Padding of the event");
	TEST_ASSERT_EQ(ev->common.arch.sregs.cs.padding, 0);
	TEST_ASSERT(!memcmp(ev->common.arch.sregs.gdt.padding, zero,
			    sizeof(ev->common.arch.sregs.gdt.padding)),
		    "Padding of the GDTR");
}

/* A message that is no reply; returns false if the connection is closed. */
static bool kvmi_recv_event(struct kvmi_tool *tool, struct kvmi_ev *ev)
{
	memset(ev, 0, sizeof(*ev));
	if (!kvmi_recv(tool, &ev->hdr, &ev->event,
		       KVMI_EVENT_SIZE + sizeof(ev->payload)))
		return false;

	TEST_ASSERT(ev->hdr.id == KVMI_VM_EVENT || ev->hdr.id == KVMI_VCPU_EVENT,
		    "Unexpected message %u", ev->hdr.id);
	kvmi_check_event(ev);
	return true;
}

/*
 * The error of the reply to a command. Its data is copied to @reply; @got is how
 * much there was. Events that come first are kept for kvmi_next_event().
 */
int kvmi_recv_reply(struct kvmi_tool *tool, u16 id, u32 seq, void *reply,
		    size_t size, size_t *got)
{
	struct {
		struct kvmi_error_code ec;
		u8 data[KVMI_MSG_SIZE];
	} msg;
	struct kvmi_msg_hdr hdr;
	struct kvmi_ev *ev;

	for (;;) {
		TEST_ASSERT(kvmi_recv(tool, &hdr, &msg, sizeof(msg)),
			    "Connection closed instead of a reply to %u", id);
		if (hdr.id == id || (hdr.id != KVMI_VM_EVENT && hdr.id != KVMI_VCPU_EVENT))
			break;

		ev = calloc(1, sizeof(*ev));
		TEST_ASSERT(ev, "No memory");
		ev->hdr = hdr;
		memcpy(&ev->event, &msg, hdr.size);
		kvmi_check_event(ev);
		list_add_tail(&ev->entry, &tool->events);
	}

	TEST_ASSERT(hdr.id == id && hdr.seq == seq,
		    "Reply to message %u seq %u, expected %u seq %u", hdr.id,
		    hdr.seq, id, seq);
	TEST_ASSERT(hdr.size >= sizeof(msg.ec), "Reply of %u bytes", hdr.size);
	TEST_ASSERT_EQ(msg.ec.padding, 0);

	size_t len = hdr.size - sizeof(msg.ec);

	TEST_ASSERT(!msg.ec.err || !len, "Error %d with %zu bytes of data",
		    msg.ec.err, len);
	TEST_ASSERT(len <= size, "%zu bytes of reply data, expected %zu", len, size);
	if (len)
		memcpy(reply, msg.data, len);
	if (got)
		*got = len;

	return msg.ec.err;
}

/* A command whose reply data may have any size up to @size. */
int kvmi_cmd_any(struct kvmi_tool *tool, u16 id, const void *req, size_t len,
		 void *reply, size_t size, size_t *got)
{
	u32 seq = kvmi_send(tool, id, req, len);

	return kvmi_recv_reply(tool, id, seq, reply, size, got);
}

/* A command whose reply data has the given size if it succeeds. */
int kvmi_cmd(struct kvmi_tool *tool, u16 id, const void *req, size_t len,
	     void *reply, size_t size)
{
	size_t got;
	int err;

	err = kvmi_cmd_any(tool, id, req, len, reply, size, &got);
	if (!err)
		TEST_ASSERT_EQ(got, size);

	return err;
}

u32 kvmi_send_vcpu(struct kvmi_tool *tool, u16 id, u16 vcpu, const void *req,
		   size_t len)
{
	struct kvmi_vcpu_hdr hdr = { .vcpu = vcpu };
	u8 data[sizeof(hdr) + len];

	memcpy(data, &hdr, sizeof(hdr));
	if (len)
		memcpy(data + sizeof(hdr), req, len);

	return kvmi_send(tool, id, data, sizeof(data));
}

int kvmi_vcpu_cmd(struct kvmi_tool *tool, u16 id, u16 vcpu, const void *req,
		  size_t len, void *reply, size_t size)
{
	u32 seq = kvmi_send_vcpu(tool, id, vcpu, req, len);
	size_t got;
	int err;

	err = kvmi_recv_reply(tool, id, seq, reply, size, &got);
	if (!err)
		TEST_ASSERT_EQ(got, size);

	return err;
}

/* The connection is alive and in step. */
void kvmi_check_version(struct kvmi_tool *tool)
{
	struct kvmi_get_version_reply rpl;

	TEST_ASSERT_EQ(kvmi_cmd(tool, KVMI_GET_VERSION, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.version, KVMI_VERSION);
}

int kvmi_control_vm_event(struct kvmi_tool *tool, u16 event, u8 enable)
{
	struct kvmi_vm_control_events req = { .event_id = event, .enable = enable };

	return kvmi_cmd(tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
}

int kvmi_control_event(struct kvmi_tool *tool, u16 vcpu, u16 event, u8 enable)
{
	struct kvmi_vcpu_control_events req = { .event_id = event, .enable = enable };

	return kvmi_vcpu_cmd(tool, KVMI_VCPU_CONTROL_EVENTS, vcpu, &req,
			     sizeof(req), NULL, 0);
}

int kvmi_pause(struct kvmi_tool *tool, u16 vcpu, u8 wait)
{
	struct kvmi_vm_pause_vcpu req = { .vcpu = vcpu, .wait = wait };

	return kvmi_cmd(tool, KVMI_VM_PAUSE_VCPU, &req, sizeof(req), NULL, 0);
}

int kvmi_read_physical(struct kvmi_tool *tool, u64 gpa, void *data, u16 size)
{
	struct kvmi_vm_read_physical req = { .gpa = gpa, .size = size };

	return kvmi_cmd(tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req), data, size);
}

int kvmi_write_physical(struct kvmi_tool *tool, u64 gpa, const void *data,
			u16 size)
{
	struct {
		struct kvmi_vm_write_physical req;
		u8 data[4096];
	} msg = { .req.gpa = gpa, .req.size = size };

	memcpy(msg.data, data, size);
	return kvmi_cmd(tool, KVMI_VM_WRITE_PHYSICAL, &msg,
			sizeof(msg.req) + size, NULL, 0);
}

int kvmi_get_registers(struct kvmi_tool *tool, u16 vcpu, struct kvm_regs *regs)
{
	struct kvmi_vcpu_get_registers req = {};
	struct kvmi_vcpu_get_registers_reply rpl;
	int err;

	err = kvmi_vcpu_cmd(tool, KVMI_VCPU_GET_REGISTERS, vcpu, &req,
			    sizeof(req), &rpl, sizeof(rpl));
	*regs = rpl.regs;
	return err;
}

int kvmi_set_registers(struct kvmi_tool *tool, u16 vcpu,
		       const struct kvm_regs *regs)
{
	return kvmi_vcpu_cmd(tool, KVMI_VCPU_SET_REGISTERS, vcpu, regs,
			     sizeof(*regs), NULL, 0);
}

/* Returns false if the connection is closed. */
bool kvmi_next_event(struct kvmi_tool *tool, struct kvmi_ev *ev)
{
	struct kvmi_ev *first;

	if (list_empty(&tool->events))
		return kvmi_recv_event(tool, ev);

	first = list_first_entry(&tool->events, struct kvmi_ev, entry);
	list_del(&first->entry);
	*ev = *first;
	free(first);
	return true;
}

void kvmi_expect_event(struct kvmi_tool *tool, u16 vcpu, u16 event,
		       struct kvmi_ev *ev)
{
	TEST_ASSERT(kvmi_next_event(tool, ev), "Connection closed instead of event %u",
		    event);
	TEST_ASSERT(ev->hdr.id == KVMI_VCPU_EVENT && ev->event.event == event &&
		    ev->common.vcpu == vcpu,
		    "Message %u event %u of vCPU %u, expected event %u of vCPU %u",
		    ev->hdr.id, ev->event.event, ev->common.vcpu, event, vcpu);
}

void kvmi_reply_data(struct kvmi_tool *tool, const struct kvmi_ev *ev,
		     u8 action, const void *data, size_t len)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		u8 data[16];
	} msg = {
		.hdr.id = KVMI_VCPU_EVENT,
		.hdr.size = sizeof(msg.vcpu) + sizeof(msg.reply) + len,
		.hdr.seq = ev->hdr.seq,
		.vcpu.vcpu = ev->common.vcpu,
		.reply.action = action,
		.reply.event = ev->event.event,
	};

	TEST_ASSERT(len <= sizeof(msg.data), "%zu bytes of reply data", len);
	if (len)
		memcpy(msg.data, data, len);
	kvmi_write(tool, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

void kvmi_reply(struct kvmi_tool *tool, const struct kvmi_ev *ev, u8 action)
{
	kvmi_reply_data(tool, ev, action, NULL, 0);
}

/* Returns true if the guest is to go on. */
static bool kvmi_handle_exit(struct kvmi_runner *runner)
{
	struct kvm_vcpu *vcpu = runner->vcpu;
	struct ucall uc;

	if (vcpu->run->exit_reason != KVM_EXIT_IO) {
		runner->exit_reason = vcpu->run->exit_reason;
		return false;
	}

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		WRITE_ONCE(runner->synced, uc.args[1]);
		WRITE_ONCE(runner->syncs, runner->syncs + 1);
		return true;
	case UCALL_DONE:
		runner->done = true;
		return false;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		return false;
	default:
		TEST_FAIL("Unexpected ucall %lu", (unsigned long)uc.cmd);
		return false;
	}
}

static void *kvmi_run(void *arg)
{
	struct kvmi_runner *runner = arg;
	int r;

	WRITE_ONCE(runner->tid, syscall(SYS_gettid));

	for (;;) {
		r = __vcpu_run(runner->vcpu);
		runner->error = r ? errno : 0;
		if (!r) {
			if (!kvmi_handle_exit(runner))
				break;
			continue;
		}

		/* EAGAIN: the vCPU waits for INIT. */
		if (runner->error != EINTR && runner->error != EAGAIN)
			break;
		runner->exit_reason = runner->vcpu->run->exit_reason;
		if (runner->error == EINTR)
			WRITE_ONCE(runner->interrupted, runner->interrupted + 1);
		if (READ_ONCE(runner->leave))
			break;
	}

	WRITE_ONCE(runner->running, false);
	return NULL;
}

static void kvmi_sigusr1(int sig)
{
}

void kvmi_start(struct kvmi_runner *runner, struct kvm_vcpu *vcpu)
{
	struct sigaction sa = { .sa_handler = kvmi_sigusr1 };

	memset(runner, 0, sizeof(*runner));
	runner->vcpu = vcpu;
	runner->running = true;
	sigaction(SIGUSR1, &sa, NULL);
	TEST_ASSERT(!pthread_create(&runner->thread, NULL, kvmi_run, runner),
		    "pthread_create");
	while (!READ_ONCE(runner->tid))
		usleep(100);
}

/* Wait until the thread ends by itself, because the guest is done or by an error. */
void kvmi_join(struct kvmi_runner *runner)
{
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(runner->running) && ms--)
		usleep(1000);
	TEST_ASSERT(!READ_ONCE(runner->running), "vCPU %u does not come to an end",
		    runner->vcpu->id);
	pthread_join(runner->thread, NULL);
}

/* Take the vCPU out of KVM_RUN, once, as a VMM does. */
void kvmi_interrupt(struct kvmi_runner *runner)
{
	u64 before = READ_ONCE(runner->interrupted);
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(runner->interrupted) == before && ms--) {
		pthread_kill(runner->thread, SIGUSR1);
		usleep(1000);
	}
	TEST_ASSERT(READ_ONCE(runner->interrupted) != before,
		    "A signal does not take vCPU %u out of KVM_RUN", runner->vcpu->id);
}

/* Take the vCPU out of KVM_RUN for good. */
void kvmi_stop(struct kvmi_runner *runner)
{
	int ms = KVMI_TIMEOUT_MS;

	WRITE_ONCE(runner->leave, true);
	while (READ_ONCE(runner->running) && ms--) {
		pthread_kill(runner->thread, SIGUSR1);
		usleep(1000);
	}
	TEST_ASSERT(!READ_ONCE(runner->running), "vCPU %u cannot be stopped",
		    runner->vcpu->id);
	pthread_join(runner->thread, NULL);
}

/* Wait until the guest has made that many UCALL_SYNCs. */
void kvmi_wait_sync(struct kvmi_runner *runner, u64 at_least)
{
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(runner->syncs) < at_least && ms--)
		usleep(1000);
	TEST_ASSERT(READ_ONCE(runner->syncs) >= at_least,
		    "vCPU %u made %lu of %lu steps", runner->vcpu->id,
		    (unsigned long)runner->syncs, (unsigned long)at_least);
}
