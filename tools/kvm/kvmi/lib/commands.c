// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: the commands. Each sends, waits for the reply, and returns what it says.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* What the reply says; @vcpu is -1 in a command for the VM. */
static int refused(struct kvmi_conn *conn, __u16 id, int vcpu, int err)
{
	const char *name = kvmi_message_name(id);
	char who[24] = "";

	if (vcpu >= 0)
		snprintf(who, sizeof(who), " of vCPU %d", vcpu);

	switch (err) {
	case EAGAIN:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER, "vCPU %d was not started yet",
				 vcpu);
	case EPERM:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER,
				 "%s%s: the VMM does not allow it", name, who);
	case KVM_ENOSYS:
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_SUPPORT,
				 "%s: this kernel does not have it", name);
	case EPROTO:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER, "%s%s: short reply", name, who);
	default:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER, "%s%s: %s", name, who,
				 strerror(err));
	}
}

/* @iov[0] is for the header, @iov[1] for struct kvmi_vcpu_hdr if @vcpu >= 0 */
static int command(struct kvmi_conn *conn, __u16 id, int vcpu, struct iovec *iov, int n,
		   void *reply, size_t reply_size)
{
	struct kvmi_call call = { .id = id, .reply = reply, .reply_size = reply_size };
	struct kvmi_vcpu_hdr hdr = { .vcpu = vcpu };
	int r;

	if (vcpu >= 0) {
		iov[1].iov_base = &hdr;
		iov[1].iov_len = sizeof(hdr);
	}

	r = kvmi_call_send(conn, &call, iov, n);
	if (!r)
		r = kvmi_call_wait(conn, &call, kvmi_now_ms() + conn->timeout);
	if (r == -ETIMEDOUT && vcpu >= 0)
		return kvmi_fail(conn, ETIMEDOUT, KVMI_FAILURE_TIMEOUT,
				 "no answer from vCPU %d in %d ms: its VMM has stopped it, or never ran it",
				 vcpu, conn->timeout);
	if (!r && call.err)
		r = refused(conn, id, vcpu, -call.err);

	return r;
}

static int vm_command(struct kvmi_conn *conn, __u16 id, const void *req, size_t size,
		      void *reply, size_t reply_size)
{
	struct iovec iov[] = { { 0 }, { .iov_base = (void *)req, .iov_len = size } };

	return command(conn, id, -1, iov, ARRAY_SIZE(iov), reply, reply_size);
}

static int vcpu_command(struct kvmi_conn *conn, __u16 id, __u16 vcpu, const void *req,
			size_t size, void *reply, size_t reply_size)
{
	struct iovec iov[] = { { 0 }, { 0 }, { .iov_base = (void *)req, .iov_len = size } };

	return command(conn, id, vcpu, iov, ARRAY_SIZE(iov), reply, reply_size);
}

/**
 * kvmi_get_version - get the protocol version and what the host can do
 * @conn: the connection
 * @rpl: out
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_version(struct kvmi_conn *conn, struct kvmi_get_version_reply *rpl)
{
	return vm_command(conn, KVMI_GET_VERSION, NULL, 0, rpl, sizeof(*rpl));
}

/**
 * kvmi_check_command - is a command there and allowed
 * @conn: the connection
 * @id: the command
 *
 * Return: 0, -ENOENT: unknown, -EPERM: not allowed, or another negative errno
 */
int kvmi_check_command(struct kvmi_conn *conn, __u16 id)
{
	struct kvmi_vm_check_command req = { .id = id };

	return vm_command(conn, KVMI_VM_CHECK_COMMAND, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_check_event - is an event there and allowed
 * @conn: the connection
 * @id: KVMI_VM_EVENT_* or KVMI_VCPU_EVENT_*
 *
 * Return: 0, -ENOENT: unknown, -EPERM: not allowed, or another negative errno
 */
int kvmi_check_event(struct kvmi_conn *conn, __u16 id)
{
	struct kvmi_vm_check_event req = { .id = id };

	return vm_command(conn, KVMI_VM_CHECK_EVENT, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_get_vcpu_count - count the vCPUs
 * @conn: the connection
 * @count: out: vCPU indexes are below it
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_vcpu_count(struct kvmi_conn *conn, unsigned int *count)
{
	struct kvmi_vm_get_info_reply rpl;
	int r = vm_command(conn, KVMI_VM_GET_INFO, NULL, 0, &rpl, sizeof(rpl));

	if (!r && rpl.vcpu_count > 0x10000)
		return kvmi_fail(conn, EPROTO, KVMI_FAILURE_OTHER, "%u vCPUs?", rpl.vcpu_count);
	if (!r)
		*count = rpl.vcpu_count;

	return r;
}

/**
 * kvmi_control_vm_event - switch a VM event on or off
 * @conn: the connection
 * @event: KVMI_VM_EVENT_*
 * @enable: on or off
 *
 * Return: 0 or a negative errno
 */
int kvmi_control_vm_event(struct kvmi_conn *conn, __u16 event, bool enable)
{
	struct kvmi_vm_control_events req = { .event_id = event, .enable = enable };

	return vm_command(conn, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_read_physical - read guest memory within a page
 * @conn: the connection
 * @gpa: guest physical address
 * @data: out
 * @size: bytes, not beyond the end of the page
 *
 * Return: 0, -ENOENT: no memory there, or another negative errno
 */
int kvmi_read_physical(struct kvmi_conn *conn, __u64 gpa, void *data, size_t size)
{
	struct kvmi_vm_read_physical req = { .gpa = gpa, .size = size };

	return vm_command(conn, KVMI_VM_READ_PHYSICAL, &req, sizeof(req), data, size);
}

/**
 * kvmi_write_physical - write guest memory within a page
 * @conn: the connection
 * @gpa: guest physical address
 * @data: what to write
 * @size: bytes, not beyond the end of the page
 *
 * Return: 0, -ENOENT: no memory there, or another negative errno
 */
int kvmi_write_physical(struct kvmi_conn *conn, __u64 gpa, const void *data, size_t size)
{
	struct kvmi_vm_write_physical req = { .gpa = gpa, .size = size };
	struct iovec iov[] = {
		{ 0 },
		{ .iov_base = &req, .iov_len = sizeof(req) },
		{ .iov_base = (void *)data, .iov_len = size },
	};

	return command(conn, KVMI_VM_WRITE_PHYSICAL, -1, iov, ARRAY_SIZE(iov), NULL, 0);
}

/**
 * kvmi_pause_vcpu - ask for a PAUSE event; kvmi_pause() is easier to use
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @wait: return only after it has left guest mode
 *
 * Return: 0 or a negative errno
 */
int kvmi_pause_vcpu(struct kvmi_conn *conn, __u16 vcpu, bool wait)
{
	struct kvmi_vm_pause_vcpu req = { .vcpu = vcpu, .wait = wait };

	return vm_command(conn, KVMI_VM_PAUSE_VCPU, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_control_cleanup - what is to become of interceptions at the end
 * @conn: the connection
 * @enable: true (as it is at first): they go; false: they stay
 *
 * Return: 0 or a negative errno
 */
int kvmi_control_cleanup(struct kvmi_conn *conn, bool enable)
{
	struct kvmi_vm_control_cleanup req = { .enable = enable };

	return vm_command(conn, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_get_max_gfn - find the end of guest memory
 * @conn: the connection
 * @gfn: out: number of the first page past it
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_max_gfn(struct kvmi_conn *conn, __u64 *gfn)
{
	struct kvmi_vm_get_max_gfn_reply rpl;
	int r = vm_command(conn, KVMI_VM_GET_MAX_GFN, NULL, 0, &rpl, sizeof(rpl));

	if (!r)
		*gfn = rpl.gfn;

	return r;
}

/* As many as a message has room for */
#define PAGES_MAX	((KVMI_MSG_SIZE - sizeof(struct kvmi_vm_set_page_access)) / \
			 sizeof(struct kvmi_page_access_entry))

/**
 * kvmi_set_page_access - restrict what the guest may do with pages, or not any more
 * @conn: the connection
 * @entries: the pages, and what is allowed; all of KVMI_PAGE_ACCESS_*: everything
 * @nr: how many, as many as you like: they are sent in several messages
 *
 * If KVM refuses one of them, those of the same message are set nevertheless,
 * and those of later ones are not.
 *
 * Return: 0, -EINVAL: no such page, or not such an access, or another negative
 * errno
 */
int kvmi_set_page_access(struct kvmi_conn *conn, const struct kvmi_page_access_entry *entries,
			 size_t nr)
{
	int r = 0;

	while (nr && !r) {
		size_t n = nr < PAGES_MAX ? nr : PAGES_MAX;
		struct kvmi_vm_set_page_access req = { .count = n };
		struct iovec iov[] = {
			{ 0 },
			{ .iov_base = &req, .iov_len = sizeof(req) },
			{ .iov_base = (void *)entries, .iov_len = n * sizeof(*entries) },
		};

		r = command(conn, KVMI_VM_SET_PAGE_ACCESS, -1, iov, ARRAY_SIZE(iov), NULL, 0);
		entries += n;
		nr -= n;
	}

	return r;
}

/**
 * kvmi_get_tsc_speed - get the frequency of a vCPU's time stamp counter
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @hz: out; 0: the host cannot scale it
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_tsc_speed(struct kvmi_conn *conn, __u16 vcpu, __u64 *hz)
{
	struct kvmi_vcpu_get_info_reply rpl;
	int r = vcpu_command(conn, KVMI_VCPU_GET_INFO, vcpu, NULL, 0, &rpl, sizeof(rpl));

	if (!r)
		*hz = rpl.tsc_speed;

	return r;
}

/**
 * kvmi_control_event - switch an event of a vCPU on or off
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @event: KVMI_VCPU_EVENT_*
 * @enable: on or off
 *
 * Return: 0 or a negative errno
 */
int kvmi_control_event(struct kvmi_conn *conn, __u16 vcpu, __u16 event, bool enable)
{
	struct kvmi_vcpu_control_events req = { .event_id = event, .enable = enable };

	return vcpu_command(conn, KVMI_VCPU_CONTROL_EVENTS, vcpu, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_get_registers - get the registers of a vCPU
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @state: out: mode, registers and special registers; its MSRs are zero
 * @msrs: index is in, data is out; may be NULL
 * @nmsrs: how many
 *
 * Return: 0, -EINVAL: there is an MSR that cannot be read, or another
 * negative errno
 */
int kvmi_get_registers(struct kvmi_conn *conn, __u16 vcpu, struct kvmi_vcpu_event_arch *state,
		       struct kvm_msr_entry *msrs, unsigned int nmsrs)
{
	size_t reply_size = sizeof(struct kvmi_vcpu_get_registers_reply) + nmsrs * sizeof(*msrs);
	size_t req_size = sizeof(struct kvmi_vcpu_get_registers) + nmsrs * sizeof(__u32);
	struct kvmi_vcpu_get_registers_reply *rpl = NULL;
	struct kvmi_vcpu_get_registers *req = NULL;
	unsigned int i;
	int r;

	if (req_size > KVMI_MSG_SIZE || reply_size > KVMI_MSG_SIZE)
		return kvmi_fail(conn, EINVAL, KVMI_FAILURE_OTHER, "too many MSRs at once");

	rpl = calloc(1, reply_size);
	req = calloc(1, req_size);
	if (!rpl || !req) {
		r = kvmi_fail(conn, ENOMEM, KVMI_FAILURE_OTHER, "out of memory");
		goto out;
	}

	req->nmsrs = nmsrs;
	for (i = 0; i < nmsrs; i++)
		req->msrs_idx[i] = msrs[i].index;

	r = vcpu_command(conn, KVMI_VCPU_GET_REGISTERS, vcpu, req, req_size, rpl, reply_size);
	if (r)
		goto out;

	memset(state, 0, sizeof(*state));
	state->mode = rpl->mode;
	state->regs = rpl->regs;
	state->sregs = rpl->sregs;
	for (i = 0; i < nmsrs; i++)
		msrs[i].data = rpl->msrs.entries[i].data;
out:
	free(req);
	free(rpl);
	return r;
}

/**
 * kvmi_set_registers - change the registers of a vCPU that waits for an answer
 * @conn: the connection
 * @vcpu: index of the vCPU, whose event is not answered yet
 * @regs: they become the guest's with the answer
 *
 * Return: 0, -EOPNOTSUPP: the vCPU does not wait, or another negative errno
 */
int kvmi_set_registers(struct kvmi_conn *conn, __u16 vcpu, const struct kvm_regs *regs)
{
	return vcpu_command(conn, KVMI_VCPU_SET_REGISTERS, vcpu, regs, sizeof(*regs), NULL, 0);
}

/**
 * kvmi_get_cpuid - get what CPUID tells the guest
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @function: leaf
 * @index: subleaf
 * @rpl: out
 *
 * Return: 0, -ENOENT: no such leaf, or another negative errno
 */
int kvmi_get_cpuid(struct kvmi_conn *conn, __u16 vcpu, __u32 function, __u32 index,
		   struct kvmi_vcpu_get_cpuid_reply *rpl)
{
	struct kvmi_vcpu_get_cpuid req = { .function = function, .index = index };

	return vcpu_command(conn, KVMI_VCPU_GET_CPUID, vcpu, &req, sizeof(req), rpl, sizeof(*rpl));
}

/**
 * kvmi_control_cr - select a control register, or not any more
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @cr: 0, 3 or 4
 * @enable: writes raise KVMI_VCPU_EVENT_CR, if that is switched on too
 *
 * Return: 0 or a negative errno
 */
int kvmi_control_cr(struct kvmi_conn *conn, __u16 vcpu, __u8 cr, bool enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };

	return vcpu_command(conn, KVMI_VCPU_CONTROL_CR, vcpu, &req, sizeof(req), NULL, 0);
}

/* What is wrong is this MSR, not the command. */
static int explain_msr(struct kvmi_conn *conn, __u16 vcpu, __u32 msr, int r)
{
	const char *name = kvmi_msr_name(msr);
	char buf[32];

	if (name)
		snprintf(buf, sizeof(buf), "MSR %s", name);
	else
		snprintf(buf, sizeof(buf), "MSR 0x%x", msr);

	switch (r) {
	case -EINVAL:
		return kvmi_fail(conn, EINVAL, KVMI_FAILURE_OTHER,
				 "%s of vCPU %u cannot be intercepted", buf, vcpu);
	case -EPERM:
		return kvmi_fail(conn, EPERM, KVMI_FAILURE_OTHER,
				 "%s of vCPU %u: the VMM does not allow to intercept it", buf,
				 vcpu);
	default:
		return r;
	}
}

/**
 * kvmi_control_msr - select an MSR, or not any more
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @msr: index of the MSR
 * @enable: writes raise KVMI_VCPU_EVENT_MSR, if that is switched on too
 *
 * Return: 0, -EINVAL: it cannot be intercepted, or another negative errno
 */
int kvmi_control_msr(struct kvmi_conn *conn, __u16 vcpu, __u32 msr, bool enable)
{
	struct kvmi_vcpu_control_msr req = { .enable = enable, .msr = msr };
	int r = vcpu_command(conn, KVMI_VCPU_CONTROL_MSR, vcpu, &req, sizeof(req), NULL, 0);

	return explain_msr(conn, vcpu, msr, r);
}

/**
 * kvmi_control_singlestep - make a vCPU step, or run again
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @enable: each instruction raises KVMI_VCPU_EVENT_SINGLESTEP
 *
 * Return: 0, -EOPNOTSUPP: the processor cannot, or another negative errno
 */
int kvmi_control_singlestep(struct kvmi_conn *conn, __u16 vcpu, bool enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	return vcpu_command(conn, KVMI_VCPU_CONTROL_SINGLESTEP, vcpu, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_inject_exception - raise an exception in the guest
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @nr: vector
 * @error_code: for vectors that have one
 * @address: CR2 of a #PF
 *
 * It is raised when the vCPU enters the guest. KVMI_VCPU_EVENT_TRAP then tells
 * what was: another exception may have come first.
 *
 * Return: 0, -EBUSY: the one before is still to come, or the vCPU is stepping,
 * or another negative errno
 */
int kvmi_inject_exception(struct kvmi_conn *conn, __u16 vcpu, __u8 nr, __u32 error_code,
			  __u64 address)
{
	struct kvmi_vcpu_inject_exception req = {
		.nr = nr, .error_code = error_code, .address = address,
	};

	return vcpu_command(conn, KVMI_VCPU_INJECT_EXCEPTION, vcpu, &req, sizeof(req), NULL, 0);
}

/**
 * kvmi_get_xcr - get an extended control register
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @xcr: 0
 * @value: out
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_xcr(struct kvmi_conn *conn, __u16 vcpu, __u8 xcr, __u64 *value)
{
	struct kvmi_vcpu_get_xcr req = { .xcr = xcr };
	struct kvmi_vcpu_get_xcr_reply rpl;
	int r = vcpu_command(conn, KVMI_VCPU_GET_XCR, vcpu, &req, sizeof(req), &rpl, sizeof(rpl));

	if (!r)
		*value = rpl.value;

	return r;
}

/**
 * kvmi_get_xsave - get the state of FPU, SSE, AVX, ...
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @xsave: out: 4096 bytes, in the standard format
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_xsave(struct kvmi_conn *conn, __u16 vcpu, struct kvm_xsave *xsave)
{
	return vcpu_command(conn, KVMI_VCPU_GET_XSAVE, vcpu, NULL, 0, xsave, sizeof(*xsave));
}

/**
 * kvmi_set_xsave - change the state of FPU, SSE, AVX, ...
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @xsave: what kvmi_get_xsave() gave, with changes
 *
 * Return: 0, -EINVAL: KVM does not take it, or another negative errno
 */
int kvmi_set_xsave(struct kvmi_conn *conn, __u16 vcpu, const struct kvm_xsave *xsave)
{
	return vcpu_command(conn, KVMI_VCPU_SET_XSAVE, vcpu, xsave, sizeof(*xsave), NULL, 0);
}

/**
 * kvmi_get_mtrr_type - get the memory type that the guest's MTRRs give
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @gpa: guest physical address
 * @type: out: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB
 *
 * Return: 0 or a negative errno
 */
int kvmi_get_mtrr_type(struct kvmi_conn *conn, __u16 vcpu, __u64 gpa, __u8 *type)
{
	struct kvmi_vcpu_get_mtrr_type req = { .gpa = gpa };
	struct kvmi_vcpu_get_mtrr_type_reply rpl;
	int r = vcpu_command(conn, KVMI_VCPU_GET_MTRR_TYPE, vcpu, &req, sizeof(req), &rpl,
			     sizeof(rpl));

	if (!r)
		*type = rpl.type;

	return r;
}

/**
 * kvmi_translate_gva - translate an address as the vCPU would now
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @gva: guest virtual address
 * @gpa: out: guest physical address, or KVMI_UNMAPPED
 *
 * Return: 0 or a negative errno
 */
int kvmi_translate_gva(struct kvmi_conn *conn, __u16 vcpu, __u64 gva, __u64 *gpa)
{
	struct kvmi_vcpu_translate_gva req = { .gva = gva };
	struct kvmi_vcpu_translate_gva_reply rpl;
	int r = vcpu_command(conn, KVMI_VCPU_TRANSLATE_GVA, vcpu, &req, sizeof(req), &rpl,
			     sizeof(rpl));

	if (!r)
		*gpa = rpl.gpa;

	return r;
}
