// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's end of the socket, in a process of its own. It does what the tests need
 * and watches that the tool keeps to the protocol: it exits with 1 otherwise.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

struct text {
	__u64 gpa;
	const char *text;
};

static const struct text texts[] = {
	{ FAKE_SPLIT, "split string" },
	{ FAKE_TWICE, "twice twice" },
	{ FAKE_EDGE, "edge o" },
	{ FAKE_HOLE_END, "f hole" },
	{ FAKE_LAST, "the last" },
};

static void wrong(const char *what)
{
	printf("# the fake says: %s\n", what);
	fflush(stdout);
	_exit(1);
}

__u8 fake_byte(__u64 gpa)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++)
		if (gpa >= texts[i].gpa && gpa < texts[i].gpa + strlen(texts[i].text))
			return texts[i].text[gpa - texts[i].gpa];

	/* Some that is equal for long, some that is not. */
	return gpa & 0x1000 ? 0x80 | (gpa >> 3 & 0x7f) : 0;
}

bool fake_present(__u64 gpa)
{
	return gpa < FAKE_HOLE || (gpa >= FAKE_HOLE_END && gpa < FAKE_MEMORY);
}

void must_read(int sock, void *data, size_t size)
{
	while (size) {
		ssize_t n = read(sock, data, size);

		if (n <= 0)
			_exit(0);
		data = (char *)data + n;
		size -= n;
	}
}

void must_write(int sock, const void *data, size_t size)
{
	while (size) {
		ssize_t n = send(sock, data, size, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(0);
		data = (const char *)data + n;
		size -= n;
	}
}

static bool byte_by_byte;

static void write_message(int sock, const void *data, size_t size)
{
	const char *s = data;

	if (!byte_by_byte) {
		must_write(sock, data, size);
		return;
	}
	while (size--)
		must_write(sock, s++, 1);
}

void send_reply(int sock, const struct kvmi_msg_hdr *cmd, int err, const void *data, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
		__u8 data[KVMI_MSG_SIZE];
	} msg = {
		.hdr = { .id = cmd->id, .seq = cmd->seq },
		.ec.err = err,
	};

	msg.hdr.size = sizeof(msg.ec) + (err ? 0 : size);
	if (!err && size)
		memcpy(msg.data, data, size);
	write_message(sock, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

void send_event(int sock, __u32 seq, __u16 event, __u16 vcpu, const void *payload, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
		struct kvmi_vcpu_event common;
		__u8 payload[64];
	} msg = {
		.hdr = { .id = event & 1, .seq = seq, .size = sizeof(msg.event) },
		.event.event = event,
		.common = { .size = sizeof(msg.common), .vcpu = vcpu },
	};

	if (event & 1) {
		msg.hdr.size += sizeof(msg.common) + size;
		msg.common.arch.mode = 8;
		msg.common.arch.regs.rip = 0x401000 + seq;
		msg.common.arch.regs.rdx = 0xc0de0000 + seq;
		msg.common.arch.sregs.cr3 = 0x1234000;
		msg.common.arch.sregs.ss.dpl = 3;
		if (size)
			memcpy(msg.payload, payload, size);
	}
	write_message(sock, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

/* The fake itself, in its process. */
static struct {
	struct fake how;
	int sock;
	__u32 event_seq;
	__u32 waiting[64];	/* number of the event that a vCPU waits with, 0: none */
	__u16 waiting_event[64];
	__u8 enabled[64];	/* hypercall 1, breakpoint 2 */
	unsigned int sent;
	unsigned int commands;
} vm;

static void raise_event(__u16 vcpu, __u16 event)
{
	struct kvmi_vcpu_event_breakpoint bp = { .gpa = 0x5000, .insn_len = 1 };
	bool breakpoint = event == KVMI_VCPU_EVENT_BREAKPOINT;

	vm.waiting[vcpu] = ++vm.event_seq;
	vm.waiting_event[vcpu] = event;
	send_event(vm.sock, vm.event_seq, event, vcpu, &bp, breakpoint ? sizeof(bp) : 0);
}

static void next_event(__u16 vcpu)
{
	if (vm.waiting[vcpu] || vm.enabled[vcpu] != 3 || vcpu)
		return;
	if (vm.sent < vm.how.events)
		raise_event(vcpu, vm.sent++ & 1 ? KVMI_VCPU_EVENT_BREAKPOINT :
						  KVMI_VCPU_EVENT_HYPERCALL);
	else if (vm.how.unhook && vm.sent++ == vm.how.events)
		send_event(vm.sock, ++vm.event_seq, KVMI_VM_EVENT_UNHOOK, 0, NULL, 0);
}

static void take_event_reply(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vcpu_hdr vcpu;
	struct kvmi_vcpu_event_reply reply;

	if (hdr->size != sizeof(vcpu) + sizeof(reply))
		wrong("event reply of a wrong size");
	memcpy(&vcpu, data, sizeof(vcpu));
	memcpy(&reply, data + sizeof(vcpu), sizeof(reply));
	if (vcpu.padding1 || vcpu.padding2 || reply.padding1 || reply.padding2)
		wrong("event reply with padding");
	if (vcpu.vcpu >= vm.how.vcpus || !vm.waiting[vcpu.vcpu] ||
	    hdr->seq != vm.waiting[vcpu.vcpu] || reply.event != vm.waiting_event[vcpu.vcpu])
		wrong("reply to an event that nobody waits with");
	if (reply.action != KVMI_EVENT_ACTION_CONTINUE)
		wrong("an action that was not expected");
	vm.waiting[vcpu.vcpu] = 0;
	next_event(vcpu.vcpu);
}

static void read_physical(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vm_read_physical req;
	__u8 page[4096];
	unsigned int i;

	memcpy(&req, data, sizeof(req));
	if (!req.size || req.gpa % 4096 + req.size > 4096 || req.padding1 || req.padding2)
		wrong("bad read");
	if (!fake_present(req.gpa)) {
		send_reply(vm.sock, hdr, -KVM_ENOENT, NULL, 0);
		return;
	}
	for (i = 0; i < req.size; i++)
		page[i] = fake_byte(req.gpa + i);
	send_reply(vm.sock, hdr, 0, page, req.size);
}

static void get_registers(const struct kvmi_msg_hdr *hdr, unsigned int index, const __u8 *data)
{
	struct {
		struct kvmi_vcpu_get_registers_reply rpl;
		struct kvm_msr_entry msrs[32];
	} all = { .rpl.mode = 8 };
	struct kvmi_vcpu_get_registers req;
	unsigned int i;

	memcpy(&req, data, sizeof(req));
	if (req.nmsrs > 32)
		wrong("many MSRs");
	all.rpl.msrs.nmsrs = req.nmsrs;
	for (i = 0; i < req.nmsrs; i++) {
		__u32 msr;

		memcpy(&msr, data + sizeof(req) + 4 * i, 4);
		/* One that this processor does not have */
		if (msr == 0x277) {
			send_reply(vm.sock, hdr, -KVM_EINVAL, NULL, 0);
			return;
		}
		memcpy((char *)all.rpl.msrs.entries + i * sizeof(struct kvm_msr_entry),
		       &(struct kvm_msr_entry){ .index = msr, .data = 0x5a0000 + msr }, 16);
	}
	all.rpl.regs.rip = 0xffffffff81000000 + index;
	all.rpl.regs.rflags = 0x202;
	all.rpl.sregs.cr0 = 0x80050033;
	all.rpl.sregs.cr4 = 0x6f0;
	all.rpl.sregs.efer = 0xd01;
	send_reply(vm.sock, hdr, 0, &all, sizeof(all.rpl) + req.nmsrs * 16);
}

static void vcpu_command(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vcpu_control_events control;
	struct kvmi_vcpu_hdr vcpu;
	__u8 bit;

	memcpy(&vcpu, data, sizeof(vcpu));
	data += sizeof(vcpu);
	if (vcpu.padding1 || vcpu.padding2 || vcpu.vcpu >= vm.how.vcpus) {
		send_reply(vm.sock, hdr, -KVM_EINVAL, NULL, 0);
		return;
	}
	if (vm.how.not_started & 1 << vcpu.vcpu && !vm.waiting[vcpu.vcpu]) {
		send_reply(vm.sock, hdr, -KVM_EAGAIN, NULL, 0);
		return;
	}
	if (vm.how.stopped & 1 << vcpu.vcpu)
		return;

	switch (hdr->id) {
	case KVMI_VCPU_GET_INFO:
		send_reply(vm.sock, hdr, 0, &(__u64){ 2500000000ULL }, 8);
		break;
	case KVMI_VCPU_GET_CPUID:
		send_reply(vm.sock, hdr, 0, "AAAABBBBCCCCDDDD", 16);
		break;
	case KVMI_VCPU_GET_REGISTERS:
		get_registers(hdr, vcpu.vcpu, data);
		break;
	case KVMI_VCPU_CONTROL_EVENTS:
		memcpy(&control, data, sizeof(control));
		bit = control.event_id == KVMI_VCPU_EVENT_HYPERCALL ? 1 : 2;
		if (control.enable)
			vm.enabled[vcpu.vcpu] |= bit;
		else
			vm.enabled[vcpu.vcpu] &= ~bit;
		send_reply(vm.sock, hdr, 0, NULL, 0);
		next_event(vcpu.vcpu);
		break;
	default:
		send_reply(vm.sock, hdr, -KVM_ENOSYS, NULL, 0);
	}
}

static void pause_vcpu(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vm_pause_vcpu req;

	memcpy(&req, data, sizeof(req));
	if (req.vcpu >= vm.how.vcpus || req.padding1 || req.padding2 || req.wait > 1)
		wrong("bad pause");
	/* The event may well come before the reply. */
	if (!(vm.how.stopped & 1 << req.vcpu))
		raise_event(req.vcpu, KVMI_VCPU_EVENT_PAUSE);
	send_reply(vm.sock, hdr, 0, NULL, 0);
}

static void vm_command(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_get_version_reply version = {
		.version = KVMI_VERSION, .max_msg_size = KVMI_MSG_SIZE,
	};
	struct kvmi_vm_get_info_reply info = { .vcpu_count = vm.how.vcpus };
	struct kvmi_vm_check_command check;

	switch (hdr->id) {
	case KVMI_GET_VERSION:
		send_reply(vm.sock, hdr, 0, &version, sizeof(version));
		break;
	case KVMI_VM_CHECK_COMMAND:
	case KVMI_VM_CHECK_EVENT:
		memcpy(&check, data, sizeof(check));
		send_reply(vm.sock, hdr, check.id > 12 ? -KVM_ENOENT : 0, NULL, 0);
		break;
	case KVMI_VM_GET_INFO:
		send_reply(vm.sock, hdr, 0, &info, sizeof(info));
		break;
	case KVMI_VM_CONTROL_EVENTS:
		send_reply(vm.sock, hdr, 0, NULL, 0);
		break;
	case KVMI_VM_READ_PHYSICAL:
		read_physical(hdr, data);
		break;
	case KVMI_VM_PAUSE_VCPU:
		pause_vcpu(hdr, data);
		break;
	case KVMI_VM_GET_MAX_GFN:
		send_reply(vm.sock, hdr, 0, &(__u64){ FAKE_MEMORY / 4096 }, 8);
		break;
	default:
		send_reply(vm.sock, hdr, -KVM_ENOSYS, NULL, 0);
	}
}

static void run_fake(int sock)
{
	struct kvmi_msg_hdr hdr;
	__u8 data[KVMI_MSG_SIZE];

	vm.sock = sock;
	byte_by_byte = vm.how.slow;
	for (;;) {
		must_read(sock, &hdr, sizeof(hdr));
		if (hdr.size > KVMI_MSG_SIZE)
			wrong("too long a message");
		memset(data, 0, sizeof(data));
		must_read(sock, data, hdr.size);

		if (hdr.id == KVMI_VCPU_EVENT) {
			take_event_reply(&hdr, data);
			continue;
		}
		if (vm.how.close_after && ++vm.commands > vm.how.close_after)
			return;
		if (vm.how.stray)
			send_event(sock, 0x80000000 + hdr.seq, KVMI_VCPU_EVENT_CR, 0, NULL, 0);
		if (hdr.id == vm.how.denied)
			send_reply(sock, &hdr, -KVM_EPERM, NULL, 0);
		else if (hdr.id & 1)
			vcpu_command(&hdr, data);
		else
			vm_command(&hdr, data);
	}
}

pid_t peer_start(void (*peer)(int sock), int *sock)
{
	int pair[2];
	pid_t pid;

	fflush(stdout);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(2);
	pid = fork();
	if (!pid) {
		close(pair[0]);
		alarm(60);
		peer(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	*sock = pair[0];

	return pid;
}

pid_t fake_start(const struct fake *fake, int *sock)
{
	memset(&vm, 0, sizeof(vm));
	vm.how = *fake;
	return peer_start(run_fake, sock);
}

/* Did the peer like what it saw? It ends when the tool closes its socket. */
bool peer_end(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && status == 0;
}
