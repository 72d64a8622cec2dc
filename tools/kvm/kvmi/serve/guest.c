// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: a VM whose VMM has come.
 *
 * The connection is QEMU's until it likes our answer to its hello, and KVM's from
 * then on. While no command uses it each event is answered such that the guest
 * goes on: one may be late that a command has asked for.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve.h"

struct guest *guest_new(struct serve *serve, int fd, pid_t pid)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return NULL;

	guest->id = ++serve->last_id;
	guest->pid = pid;
	guest->deadline = time_ms() + HANDSHAKE_TIME;
	if (pid)
		snprintf(guest->name, sizeof(guest->name), "process %d", pid);
	else
		snprintf(guest->name, sizeof(guest->name), "connection %u", guest->id);
	stream_init(&guest->stream, fd);
	greeting_begin(&guest->greeting, &serve->key);
	guest->next = serve->guests;
	serve->guests = guest;

	return guest;
}

void guest_free(struct guest *guest)
{
	stream_close(&guest->stream);
	left_forget(&guest->left);
	free(guest->waiting);
	free(guest);
}

/*
 * Close the connection: KVM lets all vCPUs go on and lifts all restrictions, and
 * the VMM sees that we have left. Its command is told by the end of its own.
 */
static void guest_close(struct guest *guest)
{
	guest->state = GUEST_GONE;
	stream_close(&guest->stream);
	if (guest->client) {
		stream_flush(&guest->client->stream);
		guest->client->guest = NULL;
		guest->client->gone = true;
		guest->client = NULL;
	}
}

static const char *why_refused(const struct serve *serve, const struct guest *guest)
{
	if (!serve->key.known)
		return "it may want a key (--key)";
	if (serve->key.hmac_only && !greeting_has_challenge(&guest->greeting))
		return "it may want the key by SHA-1, and there is --hmac";
	return "it may have another key";
}

/* The connection was closed by the other end. */
static void lost(struct serve *serve, struct guest *guest)
{
	if (guest->state == GUEST_VERSION)
		report(serve, guest, "refused",
		       "its VMM hung up at our answer: %s; its log says why",
		       why_refused(serve, guest));
	else
		report(serve, guest, "gone", "the connection has ended");
	guest_close(guest);
}

static void to_kvm(struct serve *serve, struct guest *guest, const void *data, size_t size)
{
	if (guest->state != GUEST_GONE && !stream_send(&guest->stream, data, size))
		lost(serve, guest);
}

/* One that has ended may have said something before: who reads that sees its end. */
static void to_client(struct guest *guest, const void *data, size_t size)
{
	if (guest->client && !stream_send(&guest->client->stream, data, size) && errno == ENOMEM)
		guest->client->gone = true;
}

/* A command of our own */
static void ask(struct serve *serve, struct guest *guest, __u16 id, const void *data, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		__u8 data[16];
	} msg = { .hdr = { .id = id, .size = size, .seq = ++guest->seq } };

	if (size)
		memcpy(msg.data, data, size);
	to_kvm(serve, guest, &msg, sizeof(msg.hdr) + size);
}

static void ask_for_unhook(struct serve *serve, struct guest *guest)
{
	struct kvmi_vm_control_events req = { .event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1 };

	guest->retry = 0;
	guest->tries++;
	ask(serve, guest, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req));
}

static void set_name(struct guest *guest)
{
	const struct hello *hello = &guest->greeting.hello;
	char uuid[KVMI_UUID_TEXT];

	kvmi_uuid_text(hello->uuid, uuid);
	if (*hello->name)
		snprintf(guest->name, sizeof(guest->name), "%s (%s)", hello->name, uuid);
	else
		snprintf(guest->name, sizeof(guest->name), "%s", uuid);
}

/* Its VMM speaks, and we answer. */
static void greet(struct serve *serve, struct guest *guest)
{
	struct hello_reply reply;
	char why[128];
	size_t size;
	int r = greeting_read(&guest->greeting, guest->stream.fd, why, sizeof(why));

	if (!r)
		return;
	if (r < 0) {
		report(serve, guest, "refused", "%s", why);
		guest_close(guest);
		return;
	}

	set_name(guest);
	size = greeting_answer(&guest->greeting, &serve->key, &reply);
	/* The VMM may still hang up, without a word. */
	guest->state = GUEST_VERSION;
	to_kvm(serve, guest, &reply, size);
	ask(serve, guest, KVMI_GET_VERSION, NULL, 0);
}

static void become_ready(struct serve *serve, struct guest *guest)
{
	guest->state = GUEST_READY;
	guest->deadline = 0;
	report(serve, guest, "ready", "ready%s", guest->unhook ? "" :
	       ", but its VMM does not allow KVM to tell when it wants us to leave");
	if (serve->command)
		run_for_guest(serve, guest);
}

static void check_version(struct serve *serve, struct guest *guest, const __u8 *data, size_t size)
{
	struct kvmi_get_version_reply version = { 0 };

	memcpy(&version, data, size < sizeof(version) ? size : sizeof(version));
	if (version.version != KVMI_VERSION) {
		report(serve, guest, "refused", "KVM speaks version %u of the protocol, not %u",
		       version.version, KVMI_VERSION);
		guest_close(guest);
		return;
	}
	guest->state = GUEST_ALLOW;
	ask_for_unhook(serve, guest);
}

/* What our own commands got: until it is ready there are no others. */
static void take_answer(struct serve *serve, struct guest *guest)
{
	const struct kvmi_msg_hdr *hdr = &guest->stream.hdr;
	const __u8 *data = guest->stream.msg + sizeof(*hdr);
	struct kvmi_error_code ec;

	if (hdr->seq != guest->seq || hdr->size < sizeof(ec))
		return;
	memcpy(&ec, data, sizeof(ec));

	if (guest->state == GUEST_VERSION) {
		check_version(serve, guest, data + sizeof(ec), hdr->size - sizeof(ec));
	} else if (ec.err == -KVM_EPERM && guest->tries < ALLOW_TRIES) {
		/* QEMU has given us to KVM and not yet said what we may do. */
		guest->retry = time_ms() + ALLOW_RETRY;
	} else {
		guest->unhook = !ec.err;
		become_ready(serve, guest);
	}
}

static struct waiting *waiting_of(struct guest *guest, __u16 vcpu)
{
	struct waiting *waiting;
	unsigned int nr;

	if (vcpu < guest->nr_waiting)
		return &guest->waiting[vcpu];

	nr = 2 * (vcpu + 1U);
	waiting = realloc(guest->waiting, nr * sizeof(*waiting));
	if (!waiting)
		return NULL;
	memset(waiting + guest->nr_waiting, 0, (nr - guest->nr_waiting) * sizeof(*waiting));
	guest->waiting = waiting;
	guest->nr_waiting = nr;
	return &waiting[vcpu];
}

/* Let the vCPU go on as if nobody watched, with the value that it writes itself. */
static void answer_event(struct serve *serve, struct guest *guest, __u16 vcpu)
{
	struct waiting *waiting = &guest->waiting[vcpu];
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		__u64 value;
	} msg = {
		.hdr = { .id = KVMI_VCPU_EVENT, .seq = waiting->seq },
		.vcpu = { .vcpu = vcpu },
		.reply = { .action = KVMI_EVENT_ACTION_CONTINUE, .event = waiting->event },
		.value = waiting->value,
	};
	bool has_value = waiting->event == KVMI_VCPU_EVENT_CR ||
			 waiting->event == KVMI_VCPU_EVENT_MSR;

	msg.hdr.size = sizeof(msg.vcpu) + sizeof(msg.reply) + (has_value ? sizeof(msg.value) : 0);
	waiting->seq = 0;
	to_kvm(serve, guest, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

/* In both events that have it, it is at the same place of the payload. */
static __u64 new_value(const __u8 *payload, size_t size)
{
	const size_t at = offsetof(struct kvmi_vcpu_event_cr, new_value);
	__u64 value = 0;

	static_assert(offsetof(struct kvmi_vcpu_event_cr, new_value) ==
		      offsetof(struct kvmi_vcpu_event_msr, new_value), "alike");
	if (size >= at + sizeof(value))
		memcpy(&value, payload + at, sizeof(value));
	return value;
}

static void take_vcpu_event(struct serve *serve, struct guest *guest)
{
	const struct kvmi_msg_hdr *hdr = &guest->stream.hdr;
	const __u8 *data = guest->stream.msg + sizeof(*hdr);
	struct kvmi_event_hdr event;
	struct kvmi_vcpu_event common;
	struct waiting *waiting;
	size_t at;

	if (hdr->size < sizeof(event) + sizeof(common))
		return;
	memcpy(&event, data, sizeof(event));
	memcpy(&common, data + sizeof(event), sizeof(common));
	waiting = waiting_of(guest, common.vcpu);
	if (!waiting) {
		report(serve, guest, "gone", "out of memory");
		guest_close(guest);
		return;
	}

	at = sizeof(event) + common.size;
	waiting->seq = hdr->seq;
	waiting->event = event.event;
	waiting->value = at < hdr->size ? new_value(data + at, hdr->size - at) : 0;
	if (guest->client)
		to_client(guest, guest->stream.msg, sizeof(*hdr) + hdr->size);
	else
		answer_event(serve, guest, common.vcpu);
}

/*
 * The VMM wants us to leave, or we want to: at once, or when the command has, which
 * is told. It has LEAVE_TIME for it.
 */
void guest_leave(struct guest *guest)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
	} msg = {
		.hdr = { .id = KVMI_VM_EVENT, .size = sizeof(msg.event) },
		.event = { .event = KVMI_VM_EVENT_UNHOOK },
	};

	if (guest->state == GUEST_LEAVING || guest->state == GUEST_GONE)
		return;
	if (!guest->client) {
		guest_close(guest);
		return;
	}
	guest->state = GUEST_LEAVING;
	guest->deadline = time_ms() + LEAVE_TIME;
	to_client(guest, &msg, sizeof(msg));
}

static void take_vm_event(struct serve *serve, struct guest *guest)
{
	struct kvmi_event_hdr event = { .event = ~0 };

	if (guest->stream.hdr.size >= sizeof(event))
		memcpy(&event, guest->stream.msg + sizeof(struct kvmi_msg_hdr), sizeof(event));
	if (event.event != KVMI_VM_EVENT_UNHOOK)
		return;
	report(serve, guest, "unhook", "its VMM wants us to leave");
	guest_leave(guest);
}

static void take_message(struct serve *serve, struct guest *guest)
{
	const struct kvmi_msg_hdr *hdr = &guest->stream.hdr;

	if (hdr->id == KVMI_VM_EVENT)
		take_vm_event(serve, guest);
	else if (hdr->id == KVMI_VCPU_EVENT)
		take_vcpu_event(serve, guest);
	else if (guest->state == GUEST_VERSION || guest->state == GUEST_ALLOW)
		take_answer(serve, guest);
	else
		to_client(guest, guest->stream.msg, sizeof(*hdr) + hdr->size);
}

void guest_readable(struct serve *serve, struct guest *guest)
{
	int r = 0;

	if (guest->state == GUEST_HELLO) {
		greet(serve, guest);
		return;
	}
	while (guest->state != GUEST_GONE && (r = stream_read_message(&guest->stream)) > 0) {
		take_message(serve, guest);
		guest->stream.have = 0;
	}
	if (guest->state != GUEST_GONE && r < 0)
		lost(serve, guest);
}

void guest_writable(struct serve *serve, struct guest *guest)
{
	if (!stream_flush(&guest->stream))
		lost(serve, guest);
}

/* When there is something to do without being asked, 0: never */
__s64 guest_wakes(const struct guest *guest)
{
	return guest->retry && guest->retry < guest->deadline ? guest->retry : guest->deadline;
}

void guest_tick(struct serve *serve, struct guest *guest, __s64 time)
{
	if (guest->state == GUEST_GONE)
		return;
	if (guest->retry && time >= guest->retry)
		ask_for_unhook(serve, guest);
	if (!guest->deadline || time < guest->deadline)
		return;

	if (guest->state == GUEST_LEAVING)
		report(serve, guest, "gone",
		       "process %d did not leave it in time: the connection is closed",
		       guest->client->pid);
	else if (guest->state == GUEST_HELLO)
		report(serve, guest, "refused", "it does not say hello: %zu bytes in %d s",
		       guest->greeting.got, HANDSHAKE_TIME / 1000);
	else
		report(serve, guest, "refused",
		       "KVM does not answer: its VMM has not given it the connection in %d s",
		       HANDSHAKE_TIME / 1000);
	guest_close(guest);
}

/* The command answers an event. What nobody waits for would make KVM hang up. */
static void take_reply(struct serve *serve, struct guest *guest, const struct kvmi_msg_hdr *hdr)
{
	struct kvmi_vcpu_hdr vcpu;

	if (hdr->size < sizeof(vcpu))
		return;
	memcpy(&vcpu, hdr + 1, sizeof(vcpu));
	if (vcpu.vcpu >= guest->nr_waiting || !guest->waiting[vcpu.vcpu].seq ||
	    guest->waiting[vcpu.vcpu].seq != hdr->seq)
		return;
	guest->waiting[vcpu.vcpu].seq = 0;
	left_note_reply(&guest->left, vcpu.vcpu);
	to_kvm(serve, guest, hdr, sizeof(*hdr) + hdr->size);
}

/* That event is always on: it is for us in the first place. */
static bool is_about_unhook(const struct guest *guest, const struct kvmi_msg_hdr *hdr)
{
	struct kvmi_vm_control_events req;

	if (!guest->unhook || hdr->id != KVMI_VM_CONTROL_EVENTS || hdr->size < sizeof(req))
		return false;
	memcpy(&req, hdr + 1, sizeof(req));
	return req.event_id == KVMI_VM_EVENT_UNHOOK;
}

/* A message of the command */
void guest_take(struct serve *serve, struct guest *guest, const struct kvmi_msg_hdr *hdr)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
	} done = { .hdr = { .id = hdr->id, .size = sizeof(done.ec), .seq = hdr->seq } };

	if (hdr->id == KVMI_VCPU_EVENT) {
		take_reply(serve, guest, hdr);
		return;
	}

	guest->seq = hdr->seq;
	if (is_about_unhook(guest, hdr)) {
		to_client(guest, &done, sizeof(done));
		return;
	}
	left_note(&guest->left, hdr, (const __u8 *)(hdr + 1));
	to_kvm(serve, guest, hdr, sizeof(*hdr) + hdr->size);
}

/*
 * The command has ended. One that did so in order has switched off what it had
 * switched on. What another has left is undone by KVM at the end of the
 * connection, and the VMM comes again.
 */
void guest_release(struct serve *serve, struct guest *guest)
{
	unsigned int i;
	pid_t pid = guest->client->pid;

	guest->client->guest = NULL;
	guest->client = NULL;
	for (i = 0; guest->state != GUEST_GONE && !guest->left.nr && i < guest->nr_waiting; i++)
		if (guest->waiting[i].seq)
			answer_event(serve, guest, i);

	if (guest->state == GUEST_LEAVING) {
		guest_close(guest);
	} else if (guest->state != GUEST_GONE && guest->left.nr) {
		report(serve, guest, "reset",
		       "process %d ended without leaving it in order: the connection is closed, so that KVM does",
		       pid);
		guest_close(guest);
	}
}
