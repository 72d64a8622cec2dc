/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: the tool. It carries out programs over a connection, and reads
 * all that comes back.
 */
#ifndef KVMI_FUZZ_TOOL_H
#define KVMI_FUZZ_TOOL_H

#include <fcntl.h>
#include <sys/socket.h>
#include <time.h>

#include "kvmi_fuzz_guest.h"

#define OUT_SIZE	(FUZZ_STEPS * 8192)
#define IN_SIZE		BIT(17)

/* Until an event comes, if one does. */
#define WAIT_MS		1

struct fuzz_tool {
	struct model model;
	int fd;
	bool eof;
	bool hung_up;		/* the tool is done with it */
	bool deaf;
	bool small;		/* the socket has no room for whole messages */
	bool hurry;		/* many messages, rather than all that a program is meant to do */
	u32 out_len, in_len, seq;
	u64 connections, events, replies, closed;
	u8 *out, *in;		/* OUT_SIZE, IN_SIZE */
};

static struct fuzz_tool tool;

/* KVM has closed the connection: was it told to? */
static void tool_at_eof(void)
{
	struct model *model = &tool.model;

	tool.eof = true;
	tool.out_len = 0;
	if (tool.hung_up)
		return;

	tool.closed++;
	FUZZ_ASSERT(model->must_close || model->may_close, "KVM closes the connection");
	FUZZ_ASSERT((s32)(model->required - model->vm.head) <= 0,
		    "KVM closes the connection, %u replies are missing",
		    model->required - model->vm.head);
	FUZZ_ASSERT(!tool.in_len || tool.small, "The last message is not complete");
}

/* Returns how many bytes the messages had. */
static u32 tool_take_messages(void)
{
	static u8 data[KVMI_MSG_SIZE];
	struct kvmi_msg_hdr hdr;
	u32 at = 0;

	for (;;) {
		if (tool.in_len - at < sizeof(hdr))
			return at;
		memcpy(&hdr, tool.in + at, sizeof(hdr));
		FUZZ_ASSERT(hdr.size <= KVMI_MSG_SIZE, "A message of %u bytes", hdr.size);
		if (tool.in_len - at < sizeof(hdr) + hdr.size)
			return at;
		memcpy(data, tool.in + at + sizeof(hdr), hdr.size);
		at += sizeof(hdr) + hdr.size;
		check_message(&tool.model, &hdr, data);
		if (hdr.id == KVMI_VCPU_EVENT)
			tool.events++;
		else
			tool.replies++;
	}
}

/* Returns false if nothing came. */
static bool tool_read(int timeout_ms)
{
	struct pollfd pfd = { .fd = tool.fd, .events = POLLIN };
	u32 used;
	int r;

	if (tool.eof)
		return false;
	r = recv(tool.fd, tool.in + tool.in_len, IN_SIZE - tool.in_len, MSG_DONTWAIT);
	if (r < 0 && errno == EAGAIN) {
		if (!timeout_ms || poll(&pfd, 1, timeout_ms) <= 0)
			return false;
		r = recv(tool.fd, tool.in + tool.in_len, IN_SIZE - tool.in_len, MSG_DONTWAIT);
	}
	if (!r || (r < 0 && errno == ECONNRESET)) {
		tool_at_eof();
		return true;
	}
	FUZZ_ASSERT(r > 0, "recv: %s", strerror(errno));

	tool.in_len += r;
	used = tool_take_messages();
	tool.in_len -= used;
	memmove(tool.in, tool.in + used, tool.in_len);

	return true;
}

/* Until there is nothing. */
static void tool_read_all(void)
{
	while (tool_read(0))
		;
}

/* All but the last @keep bytes. */
static void tool_flush(u32 keep)
{
	u32 at = 0, len = tool.out_len > keep ? tool.out_len - keep : 0;
	struct pollfd pfd = { .fd = tool.fd, .events = POLLIN | POLLOUT };
	int r;

	while (at < len && !tool.eof) {
		r = send(tool.fd, tool.out + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r > 0) {
			at += r;
		} else if (errno == EAGAIN) {
			/* KVM does not read on before it is rid of its replies. */
			tool.deaf = false;
			FUZZ_ASSERT(poll(&pfd, 1, KVMI_TIMEOUT_MS) > 0, "KVM does not read");
			tool_read_all();
		} else {
			FUZZ_ASSERT(errno == EPIPE || errno == ECONNRESET, "send: %s",
				    strerror(errno));
			/* It has said why, or we shut it down. */
			at = len;
		}
	}
	if (tool.eof)
		return;
	tool.out_len -= len;
	memmove(tool.out, tool.out + len, tool.out_len);
}

/* Wait until every command has its reply, or KVM has closed what it has to. */
static void tool_drain(void)
{
	tool.deaf = false;
	tool_flush(0);
	while (!tool.eof && (model_all_pending(&tool.model) || tool.model.must_close)) {
		FUZZ_ASSERT(tool_read(KVMI_TIMEOUT_MS), tool.model.must_close ?
			    "KVM does not close the connection" : "KVM does not reply");
	}
}

static void tool_write(const void *data, u32 len)
{
	if (tool.eof || tool.hung_up || tool.model.must_close)
		return;
	if (tool.out_len + len > OUT_SIZE || model_all_pending(&tool.model) > MODEL_QUEUE / 4)
		tool_drain();
	if (tool.eof)
		return;
	model_feed(&tool.model, data, len);
	memcpy(tool.out + tool.out_len, data, len);
	tool.out_len += len;
}

static void tool_write_frame(u16 id, u16 size, u16 sent, u32 seq, const u8 *data, u32 len)
{
	u8 frame[sizeof(struct kvmi_msg_hdr) + 65536];
	struct kvmi_msg_hdr hdr = { .id = id, .size = size, .seq = seq };

	memcpy(frame, &hdr, sizeof(hdr));
	len = min_t(u32, len, sent);
	memcpy(frame + sizeof(hdr), data, len);
	memset(frame + sizeof(hdr) + len, 0, sent - len);
	tool_write(frame, sizeof(hdr) + sent);
}

/* KVM has read all that was written; is it alive? */
static void tool_check_alive(void)
{
	static const u8 zeros[KVMI_MSG_SIZE];
	u32 missing;

	/* It waits for the rest of a message, whatever that is. */
	while (!tool.model.must_close && !tool.eof && !tool.hung_up) {
		missing = model_missing(&tool.model);
		if (!missing)
			break;
		tool_write(zeros, missing);
	}
	tool_write_frame(KVMI_GET_VERSION, 0, 0, ++tool.seq, zeros, 0);
	tool_drain();
	if (!tool.eof && !tool.hung_up)
		tool_read_all();
}

static bool tool_may_have_event(const struct model_vcpu *vcpu)
{
	return vcpu->pauses || vcpu->injections || vcpu->stepped || vcpu->enabled;
}

/* The reply to the event of a vCPU, with some changes. */
static void tool_reply(const struct fuzz_step *step)
{
	struct model_vcpu *vcpu = &tool.model.vcpu[step->id % FUZZ_RUNNING];
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_event_reply reply;
		u64 new_val;
		u8 more[FUZZ_DATA];
	} msg = {
		.hdr.vcpu = step->id % FUZZ_RUNNING,
		.reply.event = vcpu->event,
	};
	bool has_data = model_has_reply_data(vcpu->event);
	u16 size = step->size;
	int i;

	/* Mostly FUZZ_WAIT has read it. */
	if (!vcpu->waits && tool_may_have_event(vcpu) && (fuzz_one_in(4) || !tool.hurry)) {
		tool_flush(0);
		if (!tool.deaf)
			tool_read_all();
	}
	if (!vcpu->waits && step->op == FUZZ_REPLY)
		return;

	if (has_data)
		msg.new_val = vcpu->new_value;
	/* The same step is good for every event. */
	if (size == 24 && !has_data)
		size = 16;
	for (i = 0; i < step->len; i++)
		((u8 *)&msg)[i] ^= step->data[i];
	/* RETRY of what has none: now and then, not always. */
	if (step->len >= 9 && msg.reply.action == KVMI_EVENT_ACTION_RETRY &&
	    !(model_actions(vcpu->event) & BIT(KVMI_EVENT_ACTION_RETRY)) && vcpu->seq % 8)
		msg.reply.action = KVMI_EVENT_ACTION_CONTINUE;
	tool_write_frame(KVMI_VCPU_EVENT, size, step->sent == step->size ? size : step->sent,
			 vcpu->seq + step->arg, (u8 *)&msg, sizeof(msg));
}

/* What the VMM allows changes between two commands, not during one. */
static void tool_allow(const struct fuzz_step *step, unsigned long cmd, u32 *allowed)
{
	int err;

	tool_check_alive();
	if (tool.eof || tool.hung_up)
		return;
	err = kvmi_feature_errno(fuzz_vm.vm, cmd, step->id, step->size & 1);
	if (err)
		FUZZ_ASSERT(err == (step->id >= KVMI_NEXT_VCPU_MESSAGE ? EINVAL : EPERM),
			    "Permission for %u: %s", step->id, strerror(err));
	else if (step->size & 1)
		*allowed |= BIT(step->id);
	else
		*allowed &= ~BIT(step->id);
}

static bool tool_may_be_unhooked(void)
{
	return tool.eof || tool.hung_up || tool.model.may_close || tool.model.must_close;
}

static void tool_preunhook(void)
{
	int err;

	tool_flush(0);
	/* The event may come, and be read, before the ioctl has returned. */
	tool.model.unhooks++;
	err = kvmi_preunhook_errno(fuzz_vm.vm);
	FUZZ_ASSERT(!err || err == ENOENT || (err == EFAULT && tool_may_be_unhooked()),
		    "PREUNHOOK: %s", strerror(err));
	if (err)
		tool.model.unhooks--;
}

static void tool_set_deadline(const struct fuzz_step *step)
{
	tool_flush(0);
	/* From now on events end on their own, and a tool that misses some is lost. */
	tool.model.deadline = true;
	model_may_close(&tool.model);
	tool.model.required = tool.model.vm.head;
	kvmi_deadline_errno(fuzz_vm.vm, step->id, step->id ? step->size : 0);
}

static void tool_hang_up(u8 op)
{
	tool_flush(0);
	switch (op) {
	case FUZZ_SHUTDOWN:
		/* What was sent before is still carried out. */
		shutdown(tool.fd, SHUT_WR);
		model_must_close(&tool.model);
		return;
	case FUZZ_CLOSE:
		shutdown(tool.fd, SHUT_RDWR);
		break;
	case FUZZ_UNHOOK:
		kvmi_unhook(fuzz_vm.vm);
		break;
	}
	tool.hung_up = true;
}

/* For an event of a vCPU, if it may have one, at most until its guest is through. */
static void tool_wait(u16 nr)
{
	struct model_vcpu *vcpu = &tool.model.vcpu[nr];
	struct pollfd pfds[] = {
		{ .fd = tool.fd, .events = POLLIN },
		{ .fd = fuzz_vm.vcpus[nr].round_fd, .events = POLLIN },
	};
	bool more = true;

	tool_flush(0);
	if (tool.deaf)
		return;
	tool_read_all();
	/* A guest's round takes as long as many messages. */
	if (!tool_may_have_event(vcpu) || vcpu->waits || (fuzz_one_in(2) && tool.hurry))
		return;
	fuzz_vm_wake(nr);
	while (more && !vcpu->waits && !tool.eof) {
		more = poll(pfds, ARRAY_SIZE(pfds), WAIT_MS) > 0 && !pfds[1].revents;
		tool_read_all();
	}
}

static void tool_take_step(const struct fuzz_step *step)
{
	switch (step->op) {
	case FUZZ_MESSAGE:
		tool_write_frame(step->id, step->size, step->sent, ++tool.seq, step->data,
				 step->len);
		break;
	case FUZZ_REPLY:
	case FUZZ_ANY_REPLY:
		tool_reply(step);
		break;
	case FUZZ_SPLIT:
		tool_flush(step->id);
		break;
	case FUZZ_SIGNAL:
		tool_flush(0);
		fuzz_vm_signal(step->id);
		break;
	case FUZZ_DEAF:
		tool.deaf = true;
		break;
	case FUZZ_COMMAND:
		tool_allow(step, KVM_INTROSPECTION_COMMAND, &tool.model.commands);
		break;
	case FUZZ_EVENT:
		tool_allow(step, KVM_INTROSPECTION_EVENT, &tool.model.events);
		break;
	case FUZZ_DEADLINE:
		tool_set_deadline(step);
		break;
	case FUZZ_PREUNHOOK:
		tool_preunhook();
		break;
	case FUZZ_WAIT:
		tool_wait(step->id % FUZZ_RUNNING);
		break;
	case FUZZ_SHUTDOWN:
	case FUZZ_CLOSE:
	case FUZZ_UNHOOK:
		tool_hang_up(step->op);
		break;
	}
}

static void tool_run(const struct fuzz_program *prog)
{
	u32 i;

	for (i = 0; i < prog->nr && !tool.eof && !tool.hung_up && !tool.model.must_close; i++)
		tool_take_step(&prog->steps[i]);
	/* Others may follow in the same write. */
	if (!fuzz_one_in(4))
		return;
	tool_flush(0);
	if (!tool.deaf)
		tool_read_all();
}

static void tool_init(void)
{
	model_init(&tool.model);
	tool.out = malloc(OUT_SIZE);
	tool.in = malloc(IN_SIZE);
	TEST_ASSERT(tool.out && tool.in, "No memory");
}

static void tool_connect(void)
{
	bool attach = fuzz_one_in(8);
	int fds[2], small = 1;

	model_reset(&tool.model);
	tool.eof = false;
	tool.hung_up = false;
	tool.deaf = false;
	tool.out_len = 0;
	tool.in_len = 0;
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair: %s", strerror(errno));
	tool.small = fuzz_one_in(8);
	if (tool.small)
		setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	FUZZ_ASSERT(!kvmi_hook_errno(fuzz_vm.vm, attach ? KVM_INTROSPECTION_ATTACH :
				     KVM_INTROSPECTION_HOOK, fds[0], 0), "HOOK");
	close(fds[0]);
	tool.fd = fds[1];
	if (!attach) {
		kvmi_feature_errno(fuzz_vm.vm, KVM_INTROSPECTION_COMMAND, -1, 1);
		kvmi_feature_errno(fuzz_vm.vm, KVM_INTROSPECTION_EVENT, -1, 1);
	}
	tool.connections++;
}

/* Whatever state it is in. */
static void tool_disconnect(void)
{
	bool close_first = fuzz_one_in(2);

	tool.hung_up = true;
	if (close_first)
		close(tool.fd);
	kvmi_unhook(fuzz_vm.vm);
	if (close_first)
		return;

	while (!tool.eof)
		FUZZ_ASSERT(tool_read(KVMI_TIMEOUT_MS), "UNHOOK does not close the connection");
	close(tool.fd);
}

#endif
