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

int kvmi_deadline_errno(struct kvm_vm *vm, u32 timeout_ms, u32 max_missed)
{
	struct kvm_introspection_deadline deadline = {
		.timeout_ms = timeout_ms,
		.max_missed = max_missed,
	};

	return __vm_ioctl(vm, KVM_INTROSPECTION_DEADLINE, &deadline) ? errno : 0;
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

/* The VMM hooks the VM again, after this connection has come to an end. */
struct kvmi_tool *kvmi_rehook(struct kvmi_tool *tool)
{
	struct kvm_vm *vm = tool->vm;

	kvmi_unhook(vm);
	kvmi_free(tool);

	return kvmi_hook(vm);
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

int kvmi_control_cleanup(struct kvmi_tool *tool, u8 enable)
{
	struct kvmi_vm_control_cleanup req = { .enable = enable };

	return kvmi_cmd(tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req), NULL, 0);
}

int kvmi_control_cr(struct kvmi_tool *tool, u16 vcpu, u8 cr, u8 enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };

	return kvmi_vcpu_cmd(tool, KVMI_VCPU_CONTROL_CR, vcpu, &req,
			     sizeof(req), NULL, 0);
}

int kvmi_control_msr(struct kvmi_tool *tool, u16 vcpu, u32 msr, u8 enable)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = enable };

	return kvmi_vcpu_cmd(tool, KVMI_VCPU_CONTROL_MSR, vcpu, &req,
			     sizeof(req), NULL, 0);
}

int kvmi_control_singlestep(struct kvmi_tool *tool, u16 vcpu, u8 enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	return kvmi_vcpu_cmd(tool, KVMI_VCPU_CONTROL_SINGLESTEP, vcpu, &req,
			     sizeof(req), NULL, 0);
}

int kvmi_inject(struct kvmi_tool *tool, u16 vcpu, u8 nr, u32 error_code,
		u64 address)
{
	struct kvmi_vcpu_inject_exception req = {
		.nr = nr,
		.error_code = error_code,
		.address = address,
	};

	return kvmi_vcpu_cmd(tool, KVMI_VCPU_INJECT_EXCEPTION, vcpu, &req,
			     sizeof(req), NULL, 0);
}

int kvmi_get_xcr(struct kvmi_tool *tool, u16 vcpu, u8 xcr, u64 *value)
{
	struct kvmi_vcpu_get_xcr req = { .xcr = xcr };
	struct kvmi_vcpu_get_xcr_reply rpl = {};
	int err;

	err = kvmi_vcpu_cmd(tool, KVMI_VCPU_GET_XCR, vcpu, &req, sizeof(req),
			    &rpl, sizeof(rpl));
	*value = rpl.value;
	return err;
}

int kvmi_get_xsave(struct kvmi_tool *tool, u16 vcpu, struct kvm_xsave *xsave)
{
	return kvmi_vcpu_cmd(tool, KVMI_VCPU_GET_XSAVE, vcpu, NULL, 0, xsave,
			     sizeof(struct kvmi_vcpu_get_xsave_reply));
}

int kvmi_set_xsave(struct kvmi_tool *tool, u16 vcpu,
		   const struct kvm_xsave *xsave)
{
	return kvmi_vcpu_cmd(tool, KVMI_VCPU_SET_XSAVE, vcpu, xsave,
			     sizeof(struct kvmi_vcpu_set_xsave), NULL, 0);
}

int kvmi_get_mtrr_type(struct kvmi_tool *tool, u16 vcpu, u64 gpa, u8 *type)
{
	struct kvmi_vcpu_get_mtrr_type req = { .gpa = gpa };
	struct kvmi_vcpu_get_mtrr_type_reply rpl = {};
	static const u8 zero[7];
	int err;

	err = kvmi_vcpu_cmd(tool, KVMI_VCPU_GET_MTRR_TYPE, vcpu, &req,
			    sizeof(req), &rpl, sizeof(rpl));
	TEST_ASSERT(!memcmp(rpl.padding, zero, sizeof(zero)), "Padding");
	*type = rpl.type;
	return err;
}

int kvmi_translate(struct kvmi_tool *tool, u16 vcpu, u64 gva, u64 *gpa)
{
	struct kvmi_vcpu_translate_gva req = { .gva = gva };
	struct kvmi_vcpu_translate_gva_reply rpl = {};
	int err;

	err = kvmi_vcpu_cmd(tool, KVMI_VCPU_TRANSLATE_GVA, vcpu, &req,
			    sizeof(req), &rpl, sizeof(rpl));
	*gpa = rpl.gpa;
	return err;
}

int kvmi_set_page_accesses(struct kvmi_tool *tool,
			   const struct kvmi_page_access_entry *entries, u16 count)
{
	size_t len = count * sizeof(*entries);
	struct kvmi_vm_set_page_access *req;
	int err;

	req = calloc(1, sizeof(*req) + len);
	TEST_ASSERT(req, "No memory");
	req->count = count;
	memcpy(req->entries, entries, len);
	err = kvmi_cmd(tool, KVMI_VM_SET_PAGE_ACCESS, req, sizeof(*req) + len, NULL, 0);
	free(req);

	return err;
}

int kvmi_set_page_access(struct kvmi_tool *tool, u64 gpa, u8 access)
{
	struct kvmi_page_access_entry entry = { .gpa = gpa, .access = access };

	return kvmi_set_page_accesses(tool, &entry, 1);
}

void kvmi_expect_errors(struct kvmi_tool *tool, u16 id, const void *reqs,
			size_t size, int nr, int err)
{
	int i, got;

	for (i = 0; i < nr; i++) {
		got = kvmi_vcpu_cmd(tool, id, 0, reqs + i * size, size, NULL, 0);
		TEST_ASSERT(got == err, "Command %u, request %d: error %d, expected %d",
			    id, i, got, err);
	}
}

void kvmi_allow_command(struct kvm_vm *vm, u16 id, u32 allow)
{
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, id, allow), 0);
}

void kvmi_allow_event(struct kvm_vm *vm, u16 event, u32 allow)
{
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_EVENT, event, allow), 0);
}

/* Whatever the request says. */
void kvmi_expect_command_denied(struct kvmi_tool *tool, u16 id)
{
	u8 data[16];

	memset(data, 0xff, sizeof(data));
	kvmi_allow_command(tool->vm, id, 0);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(tool, id, 0, NULL, 0, NULL, 0), -KVM_EPERM);
	TEST_ASSERT_EQ(kvmi_cmd(tool, id, data, sizeof(data), NULL, 0), -KVM_EPERM);
	kvmi_allow_command(tool->vm, id, 1);
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

/* The verdict on an event that has a value. */
void kvmi_reply_value(struct kvmi_tool *tool, const struct kvmi_ev *ev,
		      u64 new_val)
{
	kvmi_reply_data(tool, ev, KVMI_EVENT_ACTION_CONTINUE, &new_val,
			sizeof(new_val));
}

void kvmi_let_pass(struct kvmi_tool *tool, const struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_msr *msr = (void *)ev->payload;
	const struct kvmi_vcpu_event_cr *cr = (void *)ev->payload;

	switch (ev->event.event) {
	case KVMI_VCPU_EVENT_CR:
		kvmi_reply_value(tool, ev, cr->new_value);
		break;
	case KVMI_VCPU_EVENT_MSR:
		kvmi_reply_value(tool, ev, msr->new_value);
		break;
	default:
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	}
}

void kvmi_expect_payload(const struct kvmi_ev *ev, size_t size)
{
	TEST_ASSERT(ev->hdr.size == KVMI_EVENT_SIZE + size,
		    "Event %u of %u bytes, expected %zu", ev->event.event,
		    ev->hdr.size, KVMI_EVENT_SIZE + size);
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
	case UCALL_NONE:
		runner->exit_reason = vcpu->run->exit_reason;
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

void kvmi_expect_done(struct kvmi_runner *runner)
{
	kvmi_join(runner);
	TEST_ASSERT(runner->done, "The guest of vCPU %u is not done: errno %d, exit %u",
		    runner->vcpu->id, runner->error, runner->exit_reason);
}

/* The VMM is told that the VM is to be stopped. */
void kvmi_expect_crash(struct kvmi_runner *runner)
{
	struct kvm_run *run = runner->vcpu->run;

	kvmi_join(runner);
	TEST_ASSERT_EQ(runner->error, 0);
	TEST_ASSERT_EQ(runner->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, KVM_SYSTEM_EVENT_CRASH);
	TEST_ASSERT_EQ(run->system_event.ndata, 0);
}

/*
 * Commands to a vCPU that does not run yet are carried out when it does, before
 * the guest executes anything: if KVM has read them by then, which it has when it
 * replies to the next one.
 */
void kvmi_enable_and_start(struct kvmi_tool *tool, struct kvmi_runner *runner,
			   struct kvm_vcpu *vcpu, u16 event)
{
	struct kvmi_vcpu_control_events req = { .event_id = event, .enable = 1 };
	u32 seq;

	seq = kvmi_send_vcpu(tool, KVMI_VCPU_CONTROL_EVENTS, vcpu->id, &req, sizeof(req));
	kvmi_check_version(tool);
	kvmi_start(runner, vcpu);
	TEST_ASSERT_EQ(kvmi_recv_reply(tool, KVMI_VCPU_CONTROL_EVENTS, seq, NULL, 0, NULL), 0);
}

/* The vCPU has not executed anything then. */
void kvmi_start_paused(struct kvmi_tool *tool, struct kvmi_runner *runner,
		       struct kvm_vcpu *vcpu, struct kvmi_ev *ev)
{
	TEST_ASSERT_EQ(kvmi_pause(tool, vcpu->id, 0), 0);
	kvmi_start(runner, vcpu);
	kvmi_expect_event(tool, vcpu->id, KVMI_VCPU_EVENT_PAUSE, ev);
}

/* In the guest's memory: what is to be called, and what has come of it. */
static struct kvmi_mailbox {
	bool started;
	u64 posted;	/* number of calls that were asked for */
	u64 done;	/* and of those that were made */
	kvmi_guest_fn fn;
	u64 args[2];
	u64 ret;
} kvmi_mailbox[2];

static void kvmi_agent(u64 nr)
{
	struct kvmi_mailbox *box = &kvmi_mailbox[nr];
	kvmi_guest_fn fn;

	for (;;) {
		while (READ_ONCE(box->posted) == READ_ONCE(box->done))
			GUEST_SYNC(0);
		fn = READ_ONCE(box->fn);
		WRITE_ONCE(box->ret, fn(READ_ONCE(box->args[0]), READ_ONCE(box->args[1])));
		WRITE_ONCE(box->done, box->done + 1);
	}
}

static struct kvmi_mailbox *kvmi_get_mailbox(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(vcpu->id < ARRAY_SIZE(kvmi_mailbox), "No mailbox for vCPU %u",
		    vcpu->id);
	return addr_gva2hva(vcpu->vm, (gva_t)&kvmi_mailbox[vcpu->id]);
}

/* Once; after that the vCPU goes on where it was. */
static void kvmi_set_agent(struct kvm_vcpu *vcpu)
{
	struct kvmi_mailbox *box = kvmi_get_mailbox(vcpu);

	if (box->started)
		return;
	box->started = true;
	vcpu_arch_set_entry_point(vcpu, kvmi_agent);
	vcpu_args_set(vcpu, 1, (u64)vcpu->id);
}

void kvmi_start_agent(struct kvmi_runner *runner, struct kvm_vcpu *vcpu)
{
	kvmi_set_agent(vcpu);
	kvmi_start(runner, vcpu);
}

void kvmi_call_begin(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1)
{
	struct kvmi_mailbox *box = kvmi_get_mailbox(vcpu);

	TEST_ASSERT_EQ(box->done, box->posted);
	WRITE_ONCE(box->fn, fn);
	WRITE_ONCE(box->args[0], a0);
	WRITE_ONCE(box->args[1], a1);
	WRITE_ONCE(box->posted, box->posted + 1);
}

bool kvmi_call_is_done(struct kvm_vcpu *vcpu)
{
	struct kvmi_mailbox *box = kvmi_get_mailbox(vcpu);

	return READ_ONCE(box->done) == box->posted;
}

/* What the function has returned. */
u64 kvmi_call_end(struct kvm_vcpu *vcpu)
{
	int ms = KVMI_TIMEOUT_MS;

	while (!kvmi_call_is_done(vcpu) && ms--)
		usleep(1000);
	TEST_ASSERT(kvmi_call_is_done(vcpu), "The guest of vCPU %u does not come back",
		    vcpu->id);

	return READ_ONCE(kvmi_get_mailbox(vcpu)->ret);
}

u64 kvmi_call(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1)
{
	kvmi_call_begin(vcpu, fn, a0, a1);
	return kvmi_call_end(vcpu);
}

void kvmi_page_fill(u8 *bytes)
{
	static const u8 code[] = {
		0xb8, KVMI_PAGE_RET & 0xff, KVMI_PAGE_RET >> 8, 0x00, 0x00, 0xc3
	};

	memcpy(bytes, code, sizeof(code));
	*(u64 *)(bytes + KVMI_PAGE_OFFSET) = KVMI_PAGE_VALUE;
}

void kvmi_page_init(struct kvm_vm *vm, gva_t gva, struct kvmi_page *page)
{
	page->gva = gva;
	page->gpa = addr_gva2gpa(vm, gva);
	page->bytes = addr_gva2hva(vm, gva);
	page->value = (u64 *)(page->bytes + KVMI_PAGE_OFFSET);
	kvmi_page_fill(page->bytes);
}

void kvmi_page_alloc(struct kvm_vm *vm, struct kvmi_page *page)
{
	kvmi_page_init(vm, vm_alloc_page(vm), page);
}

void kvmi_restrict(struct kvmi_tool *tool, const struct kvmi_page *page, u8 access)
{
	TEST_ASSERT_EQ(kvmi_set_page_access(tool, page->gpa, access), 0);
}

void kvmi_enable_pf(struct kvmi_tool *tool, u16 vcpu)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_PF, 1), 0);
}

/* By hardware that tells the address, by KVM's emulator, which knows it. */
void kvmi_check_pf(const struct kvmi_ev *ev, gva_t gva, gpa_t gpa, u8 access,
		   bool emulated)
{
	const struct kvmi_vcpu_event_pf *payload = (void *)ev->payload;

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->gpa, gpa);
	TEST_ASSERT_EQ(payload->access, access);
	if (payload->gva == ~0ull)
		TEST_ASSERT(!emulated && host_cpu_is_amd, "No gva");
	else
		TEST_ASSERT_EQ(payload->gva, gva);
	TEST_ASSERT(!payload->padding1 && !payload->padding2 && !payload->padding3,
		    "Padding");
}

void kvmi_expect_pf(struct kvmi_tool *tool, u16 vcpu, gva_t gva, gpa_t gpa, u8 access,
		    struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_PF, ev);
	kvmi_check_pf(ev, gva, gpa, access, false);
}

/*
 * The fewest of some attempts: an exit may always have another reason. The
 * function returns 0.
 */
u64 kvmi_count_exits(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1)
{
	u64 exits, fewest = ~0ull;
	int i;

	kvmi_set_agent(vcpu);
	for (i = 0; i < 3; i++) {
		kvmi_call_begin(vcpu, fn, a0, a1);
		exits = vcpu_get_stat(vcpu, exits);
		do {
			vcpu_run(vcpu);
			TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
		} while (!kvmi_call_is_done(vcpu));
		fewest = min_t(u64, fewest, vcpu_get_stat(vcpu, exits) - exits);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	}

	return fewest;
}

/* KVM may need a moment until it has dropped an interception. */
void kvmi_expect_few_exits(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1,
			   u64 at_most)
{
	u64 exits;
	int i;

	for (i = 0; i < 50; i++) {
		exits = kvmi_count_exits(vcpu, fn, a0, a1);
		if (exits <= at_most)
			return;
		usleep(10000);
	}
	TEST_FAIL("%lu exits, expected %lu at most", (unsigned long)exits,
		  (unsigned long)at_most);
}

static u64 kvmi_probe_breakpoints;

static void kvmi_probe_bp_handler(struct ex_regs *regs)
{
	kvmi_probe_breakpoints++;
}

static void kvmi_probe_ud_handler(struct ex_regs *regs)
{
	regs->rip += 2;
}

static void kvmi_probe_int3(void)
{
	/*
	 * Bochs 3.0 tells an SVM host for too long that a nested page fault came
	 * while #BP was delivered; KVM then delivers it again. Have everything
	 * that takes to handle an exception mapped before.
	 */
	asm volatile("ud2");
	asm volatile("int3" : : : "memory");
	GUEST_SYNC(READ_ONCE(kvmi_probe_breakpoints));
}

/*
 * What the host lacks, shown by KVM's interface for debuggers: some emulators do
 * not let it intercept the #BP of an INT3, or do not inject it as processors do.
 * NULL if it has what it takes.
 */
const char *kvmi_int3_lacks(bool inject)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
	};
	const char *lacks = NULL;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	vm = vm_create_with_one_vcpu(&vcpu, kvmi_probe_int3);
	vm_install_exception_handler(vm, BP_VECTOR, kvmi_probe_bp_handler);
	vm_install_exception_handler(vm, UD_VECTOR, kvmi_probe_ud_handler);
	vcpu_guest_debug_set(vcpu, &debug);
	vcpu_run(vcpu);
	if (vcpu->run->exit_reason != KVM_EXIT_DEBUG) {
		lacks = "KVM's debug interface shows: the host cannot intercept INT3";
	} else if (inject) {
		debug.control = KVM_GUESTDBG_INJECT_BP;
		vcpu_guest_debug_set(vcpu, &debug);
		vcpu_run(vcpu);
		if (get_ucall(vcpu, &uc) != UCALL_SYNC || uc.args[1] != 1)
			lacks = "KVM's debug interface shows: the host cannot inject #BP properly";
	}
	kvm_vm_free(vm);

	return lacks;
}

static int kvmi_root_shift(struct kvm_vm *vm)
{
	return 12 + 9 * (vm->mmu.pgtable_levels - 1);
}

gva_t kvmi_map_far(struct kvm_vm *vm, gpa_t *gpa)
{
	/* In the lower half, where nothing else is. */
	gva_t gva = 77ull << kvmi_root_shift(vm);

	*gpa = addr_gva2gpa(vm, vm_alloc_page(vm));
	virt_pg_map(vm, gva, *gpa);

	return gva;
}

gpa_t kvmi_root_without(struct kvm_vm *vm, gva_t gva)
{
	gpa_t root = addr_gva2gpa(vm, vm_alloc_page(vm));
	u64 *entries = addr_gpa2hva(vm, root);

	memcpy(entries, addr_gpa2hva(vm, vm->mmu.pgd), 4096);
	entries[(gva >> kvmi_root_shift(vm)) & 511] = 0;

	return root;
}

static void kvmi_allow_user_entries(struct kvm_vm *vm, gpa_t table, int level)
{
	u64 *entries = addr_gpa2hva(vm, table);
	int i;

	for (i = 0; i < 512; i++) {
		if (!is_present_pte(&vm->mmu, &entries[i]))
			continue;
		entries[i] |= PTE_USER_MASK(&vm->mmu);
		if (level > 1)
			kvmi_allow_user_entries(vm, PTE_GET_PA(entries[i]), level - 1);
	}
}

void kvmi_allow_user(struct kvm_vm *vm, gva_t stack)
{
	u64 *gdt = addr_gva2hva(vm, vm->arch.gdt);

	kvmi_allow_user_entries(vm, vm->mmu.pgd, vm->mmu.pgtable_levels);
	gdt[KVMI_USER_DS >> 3] = 0x00cff3000000ffffull;
	gdt[KVMI_USER_CS >> 3] = 0x00affb000000ffffull;
	/* It is unaligned there. */
	memcpy(addr_gva2hva(vm, vm->arch.tss + 4), &stack, sizeof(stack));
}

void kvmi_guest_done(void)
{
	GUEST_DONE();
}

u64 kvmi_guest_read(u64 gva, u64 unused)
{
	return kvmi_guest_try("mov (%%rdi), %%r9", "D"(gva));
}

u64 kvmi_guest_load(u64 gva, u64 unused)
{
	u64 val;

	asm volatile("mov (%1), %0" : "=r"(val) : "r"(gva) : "memory");
	return val;
}

u64 kvmi_guest_fetch(u64 gva, u64 unused)
{
	u64 ret;

	asm volatile("call *%1" : "=a"(ret) : "r"(gva) : "memory");
	return ret;
}

u64 kvmi_guest_store(u64 gva, u64 val)
{
	asm volatile("mov %1, (%0)" : : "r"(gva), "r"(val) : "memory");
	return val;
}

u64 kvmi_guest_strange_store(u64 gva, u64 val)
{
	asm volatile("movq %1, %%xmm0\n\t"
		     "pextrq $0, %%xmm0, (%0)" : : "r"(gva), "r"(val) : "memory", "xmm0");
	return val;
}
