// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's end of the socket, in a process of its own. It does what the tests need
 * and watches that the tool keeps to the protocol: it exits with 1 otherwise.
 */
#include <errno.h>
#include <signal.h>
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
	/* push, nop, pop, push, pop, nop; an instruction over two pages */
	{ FAKE_CODE_GPA, "\x55\x90\x5d\x50\x58\x90" },
	{ FAKE_CODE_GPA + 0xffe, "\x48\x89" },
	{ FAKE_CODE_GPA2, "\xe5\x90" },
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

	if (kernel_present(gpa))
		return kernel_byte(gpa);
	for (i = 0; i < ARRAY_SIZE(texts); i++)
		if (gpa >= texts[i].gpa && gpa < texts[i].gpa + strlen(texts[i].text))
			return (__u8)texts[i].text[gpa - texts[i].gpa];

	/* Some that is equal for long, some that is not. */
	return gpa & 0x1000 ? 0x80 | (gpa >> 3 & 0x7f) : 0;
}

bool fake_present(__u64 gpa)
{
	return gpa < FAKE_HOLE || (gpa >= FAKE_HOLE_END && gpa < FAKE_MEMORY) ||
	       kernel_present(gpa);
}

static int left_on(void);

/* At the end of the connection the fake ends too, and judges what it has seen. */
void must_read(int sock, void *data, size_t size)
{
	while (size) {
		ssize_t n = read(sock, data, size);

		if (n <= 0)
			_exit(left_on());
		data = (char *)data + n;
		size -= n;
	}
}

void must_write(int sock, const void *data, size_t size)
{
	while (size) {
		ssize_t n = send(sock, data, size, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(left_on());
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

/* Does not count in 64-bit mode. */
#define CS_BASE	0x80fff000

/* Where events come from, 0: does not matter */
static __u64 event_rip;
static __u8 event_mode;

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
		msg.common.arch.mode = event_mode ?: 8;
		msg.common.arch.regs.rip = event_rip ?: 0x401000 + seq;
		msg.common.arch.regs.rdx = 0xc0de0000 + seq;
		msg.common.arch.sregs.cr3 = 0x1234000;
		msg.common.arch.sregs.cs.base = CS_BASE;
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
	__u64 answer[64];	/* its reply data */
	__u32 enabled[64];	/* events, as bits */
	__u8 crs[64];		/* selected, as bits */
	__u32 msrs[64][16];	/* selected, 0: none */
	bool stepping[64];
	__u64 rip[64];
	unsigned int steps;
	unsigned int sent;
	unsigned int commands;
	unsigned int refused;
	bool tells;		/* UNHOOK is enabled */
	__u8 action;		/* what vCPU 0 is to be answered with */
	struct kvmi_vcpu_inject_exception inject;	/* and get before that */
	bool busy;
	bool injected;
	__u8 access[KERNEL_SIZE / 4096];	/* to the pages of the kernel */
	bool lifting;		/* access was given back last, */
	bool not_full;		/* by a message that had room for more */
} vm;

static int left_on(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vm.stepping) && !vm.how.forgiving; i++)
		if (vm.stepping[i])
			wrong("single-stepping was left on");
	for (i = 0; vm.how.kernel && !vm.how.forgiving && i < ARRAY_SIZE(vm.access); i++)
		if (vm.access[i] != 7)
			wrong("access to pages was left restricted");
	for (i = 0; vm.how.late && i < vm.how.vcpus; i++)
		if (vm.waiting[i])
			wrong("a late pause was not answered");
	for (i = 0; vm.how.all_answered && i < vm.how.vcpus; i++)
		if (vm.waiting[i])
			wrong("an event was not answered");
	return 0;
}

static void raise_event(__u16 vcpu, __u16 event, const void *payload, size_t size)
{
	vm.waiting[vcpu] = ++vm.event_seq;
	vm.waiting_event[vcpu] = event;
	send_event(vm.sock, vm.event_seq, event, vcpu, payload, size);
}

static unsigned int nr_selected(__u16 vcpu)
{
	unsigned int i, nr = 0;

	for (i = 0; i < ARRAY_SIZE(vm.msrs[vcpu]); i++)
		nr += vm.msrs[vcpu][i] != 0;
	return nr;
}

static bool is_selected(__u16 vcpu, __u32 msr)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vm.msrs[vcpu]); i++)
		if (vm.msrs[vcpu][i] == msr)
			return true;
	return false;
}

/* Is all that the guest waits for switched on, and nothing else? */
static bool is_on(__u16 vcpu)
{
	const struct fake_guest *guest = vm.how.guest;
	unsigned int i, nr = 0;

	for (i = 0; i < guest->nr_msrs; i++)
		nr += is_selected(vcpu, guest->msrs[i]);
	if (vm.enabled[vcpu] & ~guest->events || vm.crs[vcpu] & ~guest->crs ||
	    nr_selected(vcpu) > nr)
		wrong("more is switched on than it should be");
	return vm.enabled[vcpu] == guest->events && vm.crs[vcpu] == guest->crs &&
	       nr == guest->nr_msrs;
}

/* The same for the access to the pages of its kernel */
static bool is_protected(void)
{
	size_t i;

	for (i = 0; vm.how.kernel && i < ARRAY_SIZE(vm.access); i++)
		if (vm.access[i] != kernel_access(vm.how.kernel, FAKE_KERNEL_GPA + i * 4096))
			return false;
	return true;
}

static void guest_goes_on(void)
{
	const struct fake_guest *guest = vm.how.guest;
	const struct kvmi_event *does;
	__u16 vcpu;

	for (vcpu = 0; vcpu < vm.how.vcpus; vcpu++)
		if (!is_on(vcpu))
			return;
	if (vm.waiting[0] || vm.sent == guest->nr || !is_protected())
		return;
	does = &guest->does[vm.sent];
	vm.answer[0] = guest->answers[vm.sent];
	vm.action = guest->actions[vm.sent];
	vm.inject = guest->injects[vm.sent];
	vm.busy = guest->busy & 1U << vm.sent;
	vm.sent++;
	raise_event(0, does->id, does->payload, does->payload_size);
}

static void step(__u16 vcpu)
{
	struct kvmi_vcpu_event_singlestep payload = { 0 };

	if (vm.waiting[vcpu] || !vm.stepping[vcpu])
		return;
	if (vm.how.steps && vm.steps == vm.how.steps)
		return;
	payload.failed = ++vm.steps == vm.how.failed_step;
	vm.rip[vcpu] += !payload.failed;
	event_rip = vm.rip[vcpu];
	event_mode = vm.how.mode;
	raise_event(vcpu, KVMI_VCPU_EVENT_SINGLESTEP, &payload, sizeof(payload));
	event_rip = 0;
}

static void next_event(__u16 vcpu)
{
	static const __u32 both = 1 << KVMI_VCPU_EVENT_HYPERCALL | 1 << KVMI_VCPU_EVENT_BREAKPOINT;
	struct kvmi_vcpu_event_breakpoint bp = { .gpa = 0x5000, .insn_len = 1 };

	if (vm.how.guest) {
		guest_goes_on();
		return;
	}
	if (vm.waiting[vcpu] || (vm.enabled[vcpu] & both) != both || vcpu)
		return;
	if (vm.sent < vm.how.events) {
		if (vm.sent++ & 1)
			raise_event(vcpu, KVMI_VCPU_EVENT_BREAKPOINT, &bp, sizeof(bp));
		else
			raise_event(vcpu, KVMI_VCPU_EVENT_HYPERCALL, NULL, 0);
	} else if (vm.how.unhook && vm.sent++ == vm.how.events) {
		send_event(vm.sock, ++vm.event_seq, KVMI_VM_EVENT_UNHOOK, 0, NULL, 0);
	}
}

static bool has_reply_data(__u16 event)
{
	return event == KVMI_VCPU_EVENT_CR || event == KVMI_VCPU_EVENT_MSR;
}

/* The exception that was injected, unless there could not be one */
static void tell_injected(void)
{
	struct kvmi_vcpu_event_trap trap = {
		.nr = vm.inject.nr, .error_code = vm.inject.error_code,
		.address = vm.inject.address,
	};

	if (!vm.injected)
		wrong("no exception, although it was expected");
	vm.injected = false;
	if (vm.busy)
		guest_goes_on();
	else
		raise_event(0, KVMI_VCPU_EVENT_TRAP, &trap, sizeof(trap));
}

static void pause_late_vcpus(void)
{
	unsigned int i;

	for (i = 0; vm.how.late && i < vm.how.vcpus; i++)
		if (vm.how.stopped & 1U << i)
			raise_event(i, KVMI_VCPU_EVENT_PAUSE, NULL, 0);
}

static void take_event_reply(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vcpu_hdr vcpu;
	struct kvmi_vcpu_event_reply reply;
	size_t size = sizeof(vcpu) + sizeof(reply);
	__u8 action;

	if (hdr->size < size)
		wrong("event reply that is too short");
	memcpy(&vcpu, data, sizeof(vcpu));
	memcpy(&reply, data + sizeof(vcpu), sizeof(reply));
	if (vcpu.padding1 || vcpu.padding2 || reply.padding1 || reply.padding2)
		wrong("event reply with padding");
	if (vcpu.vcpu >= vm.how.vcpus || !vm.waiting[vcpu.vcpu] ||
	    hdr->seq != vm.waiting[vcpu.vcpu] || reply.event != vm.waiting_event[vcpu.vcpu])
		wrong("reply to an event that nobody waits with");
	action = reply.event == KVMI_VCPU_EVENT_PF ? vm.action : KVMI_EVENT_ACTION_CONTINUE;
	if (reply.action != action)
		wrong("an action that was not expected");
	if (has_reply_data(reply.event)) {
		if (memcmp(data + size, &vm.answer[vcpu.vcpu], sizeof(vm.answer[0])))
			wrong("reply data that was not expected");
		size += sizeof(vm.answer[0]);
	}
	if (hdr->size != size)
		wrong("event reply of a wrong size");
	vm.waiting[vcpu.vcpu] = 0;
	if (reply.event == KVMI_VCPU_EVENT_PF && vm.inject.nr) {
		tell_injected();
		return;
	}
	if (reply.event == KVMI_VCPU_EVENT_PAUSE && !vcpu.vcpu)
		pause_late_vcpus();
	next_event(vcpu.vcpu);
	step(vcpu.vcpu);
}

/* What vCPU 0 waits for is to be this exception. */
static void inject_exception(const struct kvmi_msg_hdr *hdr, __u16 vcpu, const __u8 *data)
{
	if (!vm.how.guest) {
		send_reply(vm.sock, hdr, -KVM_ENOSYS, NULL, 0);
		return;
	}
	if (vcpu || vm.waiting_event[0] != KVMI_VCPU_EVENT_PF || vm.injected ||
	    memcmp(data, &vm.inject, sizeof(vm.inject)))
		wrong("an exception that was not expected");
	vm.injected = true;
	send_reply(vm.sock, hdr, vm.busy ? -KVM_EBUSY : 0, NULL, 0);
}

static void set_page_access(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vm_set_page_access req;
	struct kvmi_page_access_entry entry;
	static const __u8 zero[sizeof(entry.padding)];
	bool lifting = false;
	unsigned int i;

	memcpy(&req, data, sizeof(req));
	if (!req.count || req.count > 511 || req.padding1 || req.padding2 ||
	    hdr->size != sizeof(req) + req.count * sizeof(entry))
		wrong("bad restriction of access");
	for (i = 0; i < req.count; i++) {
		memcpy(&entry, data + sizeof(req) + i * sizeof(entry), sizeof(entry));
		if (memcmp(entry.padding, zero, sizeof(zero)) || entry.gpa % 4096)
			wrong("bad page");
		if (entry.access != 1 && entry.access != 3 && entry.access != 5 &&
		    entry.access != 7)
			wrong("an access that not every processor can do");
		if (entry.gpa < FAKE_KERNEL_GPA || entry.gpa > FAKE_KERNEL_LAST)
			wrong("a page that is not the kernel's");
		vm.access[(entry.gpa - FAKE_KERNEL_GPA) / 4096] = entry.access;
		lifting = entry.access == 7;
	}
	if (vm.not_full && lifting == vm.lifting)
		wrong("there was room in the message before");
	vm.not_full = req.count < 511;
	vm.lifting = lifting;
	send_reply(vm.sock, hdr, 0, NULL, 0);
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

static void set_kernel_registers(unsigned int vcpu, struct kvm_sregs *sregs,
				 struct kvm_msr_entry *msrs, unsigned int nmsrs)
{
	__u64 lstar;
	unsigned int i;

	kernel_registers(vm.how.kernel, vcpu, sregs, &lstar);
	for (i = 0; i < nmsrs; i++)
		if (msrs[i].index == 0xc0000082)
			msrs[i].data = lstar;
}

static void get_registers(const struct kvmi_msg_hdr *hdr, unsigned int index, const __u8 *data)
{
	struct {
		struct kvmi_vcpu_get_registers_reply rpl;
		struct kvm_msr_entry msrs[32];
	} all = { .rpl.mode = vm.how.mode ?: 8 };
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
	all.rpl.regs.rip = vm.rip[index];
	all.rpl.sregs.cs.base = CS_BASE;
	all.rpl.regs.rflags = 0x202;
	all.rpl.sregs.cr0 = 0x80050033;
	all.rpl.sregs.cr4 = 0x6f0;
	all.rpl.sregs.efer = 0xd01;
	if (vm.how.kernel)
		set_kernel_registers(index, &all.rpl.sregs, all.msrs, req.nmsrs);
	send_reply(vm.sock, hdr, 0, &all, sizeof(all.rpl) + req.nmsrs * 16);
}

static void control_event(const struct kvmi_msg_hdr *hdr, __u16 vcpu, const __u8 *data)
{
	struct kvmi_vcpu_control_events req;

	memcpy(&req, data, sizeof(req));
	if (req.event_id >= 32 || req.padding1 || req.padding2 || req.enable > 1)
		wrong("bad control of an event");
	vm.enabled[vcpu] &= ~(1U << req.event_id);
	vm.enabled[vcpu] |= (__u32)req.enable << req.event_id;
	send_reply(vm.sock, hdr, 0, NULL, 0);
}

static void control_cr(const struct kvmi_msg_hdr *hdr, __u16 vcpu, const __u8 *data)
{
	struct kvmi_vcpu_control_cr req;

	memcpy(&req, data, sizeof(req));
	if (!kvmi_cr_name(req.cr) || req.padding1 || req.padding2 || req.enable > 1)
		wrong("bad control of a control register");
	vm.crs[vcpu] &= ~(1 << req.cr);
	vm.crs[vcpu] |= req.enable << req.cr;
	send_reply(vm.sock, hdr, 0, NULL, 0);
}

/* There is one that cannot be intercepted, and one that the VMM does not want to be. */
static void control_msr(const struct kvmi_msg_hdr *hdr, __u16 vcpu, const __u8 *data)
{
	struct kvmi_vcpu_control_msr req;
	unsigned int i;

	memcpy(&req, data, sizeof(req));
	if (req.padding1 || req.padding2 || req.enable > 1)
		wrong("bad control of an MSR");
	if (req.msr == 0x1d9 || req.msr == 0x48) {
		send_reply(vm.sock, hdr, req.msr == 0x48 ? -KVM_EPERM : -KVM_EINVAL, NULL, 0);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(vm.msrs[vcpu]); i++)
		if (vm.msrs[vcpu][i] == (req.enable ? 0 : req.msr))
			break;
	if (i == ARRAY_SIZE(vm.msrs[vcpu]))
		wrong("many MSRs");
	vm.msrs[vcpu][i] = req.enable ? req.msr : 0;
	send_reply(vm.sock, hdr, 0, NULL, 0);
}

static void control_singlestep(const struct kvmi_msg_hdr *hdr, __u16 vcpu, const __u8 *data)
{
	struct kvmi_vcpu_control_singlestep req;
	static const __u8 zero[sizeof(req.padding)];

	memcpy(&req, data, sizeof(req));
	if (req.enable > 1 || memcmp(req.padding, zero, sizeof(zero)))
		wrong("bad control of single-stepping");
	vm.stepping[vcpu] = req.enable;
	send_reply(vm.sock, hdr, 0, NULL, 0);
	step(vcpu);
}

static void translate_gva(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	__u64 gva, gpa = KVMI_UNMAPPED;

	memcpy(&gva, data, sizeof(gva));
	/* In 32-bit mode the same is at the lower half of the address. */
	if (gva >> 32 == 0)
		gva |= FAKE_CODE >> 32 << 32;
	if (gva >= FAKE_CODE && gva < FAKE_CODE + 0x1000)
		gpa = gva - FAKE_CODE + FAKE_CODE_GPA;
	else if (gva >= FAKE_CODE + 0x1000 && gva < FAKE_CODE + 0x2000)
		gpa = gva - FAKE_CODE - 0x1000 + FAKE_CODE_GPA2;
	else if (gva >= FAKE_CODE + 0x3000 && gva < FAKE_CODE + 0x4000)
		gpa = gva - FAKE_CODE - 0x3000 + FAKE_HOLE;
	send_reply(vm.sock, hdr, 0, &gpa, sizeof(gpa));
}

static void vcpu_command(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	static const __u8 xsave[4096] = { [0] = 0x7f, [1] = 3, [4095] = 9 };
	struct kvmi_vcpu_hdr vcpu;

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
		control_event(hdr, vcpu.vcpu, data);
		next_event(vcpu.vcpu);
		break;
	case KVMI_VCPU_CONTROL_CR:
		control_cr(hdr, vcpu.vcpu, data);
		next_event(vcpu.vcpu);
		break;
	case KVMI_VCPU_CONTROL_MSR:
		control_msr(hdr, vcpu.vcpu, data);
		next_event(vcpu.vcpu);
		break;
	case KVMI_VCPU_CONTROL_SINGLESTEP:
		control_singlestep(hdr, vcpu.vcpu, data);
		break;
	case KVMI_VCPU_INJECT_EXCEPTION:
		inject_exception(hdr, vcpu.vcpu, data);
		break;
	case KVMI_VCPU_TRANSLATE_GVA:
		translate_gva(hdr, data);
		break;
	case KVMI_VCPU_GET_XCR:
		send_reply(vm.sock, hdr, data[0] ? -KVM_EINVAL : 0, &(__u64){ 7 }, 8);
		break;
	case KVMI_VCPU_GET_XSAVE:
		send_reply(vm.sock, hdr, 0, xsave, sizeof(xsave));
		break;
	case KVMI_VCPU_SET_XSAVE:
		send_reply(vm.sock, hdr, memcmp(data, xsave, sizeof(xsave)) ? -KVM_EINVAL : 0,
			   NULL, 0);
		break;
	case KVMI_VCPU_GET_MTRR_TYPE:
		send_reply(vm.sock, hdr, 0, &(__u64){ 6 }, 8);
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
		raise_event(req.vcpu, KVMI_VCPU_EVENT_PAUSE, NULL, 0);
	send_reply(vm.sock, hdr, 0, NULL, 0);
}

static void vm_command(const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_get_version_reply version = {
		.version = KVMI_VERSION + vm.how.newer, .max_msg_size = KVMI_MSG_SIZE,
		.features.singlestep = !vm.how.no_singlestep,
	};
	struct kvmi_vm_get_info_reply info = { .vcpu_count = vm.how.vcpus };
	struct kvmi_vm_check_command check;
	struct kvmi_vm_control_events events;

	switch (hdr->id) {
	case KVMI_GET_VERSION:
		send_reply(vm.sock, hdr, 0, &version, sizeof(version));
		break;
	case KVMI_VM_CHECK_COMMAND:
		memcpy(&check, data, sizeof(check));
		send_reply(vm.sock, hdr, check.id == KVMI_VM_SET_PAGE_ACCESS && !vm.how.kernel ?
			   -KVM_ENOENT : 0, NULL, 0);
		break;
	case KVMI_VM_CHECK_EVENT:
		memcpy(&check, data, sizeof(check));
		if (check.id >= KVMI_NEXT_VCPU_EVENT)
			wrong("no event");
		send_reply(vm.sock, hdr, vm.how.unknown & 1U << check.id ? -KVM_ENOENT : 0,
			   NULL, 0);
		break;
	case KVMI_VM_GET_INFO:
		send_reply(vm.sock, hdr, 0, &info, sizeof(info));
		break;
	case KVMI_VM_CONTROL_EVENTS:
		memcpy(&events, data, sizeof(events));
		vm.tells = events.enable && vm.refused++ >= vm.how.allow_after;
		send_reply(vm.sock, hdr, events.enable && !vm.tells ? -KVM_EPERM : 0, NULL, 0);
		break;
	case KVMI_VM_READ_PHYSICAL:
		read_physical(hdr, data);
		break;
	case KVMI_VM_PAUSE_VCPU:
		pause_vcpu(hdr, data);
		break;
	case KVMI_VM_SET_PAGE_ACCESS:
		set_page_access(hdr, data);
		if (vm.how.guest)
			guest_goes_on();
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

static void prepare(const struct fake *fake)
{
	size_t i;

	memset(&vm, 0, sizeof(vm));
	vm.how = *fake;
	memset(vm.access, 7, sizeof(vm.access));
	kernel_build(fake->kernel);
	for (i = 0; i < ARRAY_SIZE(vm.rip); i++)
		vm.rip[i] = FAKE_CODE + i;
	if (fake->rip)
		vm.rip[0] = fake->rip;
}

pid_t fake_start(const struct fake *fake, int *sock)
{
	prepare(fake);
	return peer_start(run_fake, sock);
}

static void unhook(int sig)
{
	(void)sig;
	if (vm.tells)
		send_event(vm.sock, ++vm.event_seq, KVMI_VM_EVENT_UNHOOK, 0, NULL, 0);
}

/* In this process, until the end of the connection; SIGUSR1 raises UNHOOK. */
void fake_be(const struct fake *fake, int sock)
{
	prepare(fake);
	signal(SIGUSR1, unhook);
	run_fake(sock);
}

/* Did the peer like what it saw? It ends when the tool closes its socket. */
bool peer_end(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && status == 0;
}
