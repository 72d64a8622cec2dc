// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: commands, with each of their errors.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

KVMI_TEST_SUITE(kvmi_command, 1);

static void guest_loop(void)
{
	for (;;)
		GUEST_SYNC(1);
}

TEST_F(kvmi_command, get_version)
{
	struct kvmi_get_version_reply rpl;
	int i;

	memset(&rpl, 0xff, sizeof(rpl));
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_GET_VERSION, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.version, KVMI_VERSION);
	TEST_ASSERT_EQ(rpl.max_msg_size, KVMI_MSG_SIZE);
	TEST_ASSERT_EQ(rpl.features.singlestep, 1);
	for (i = 0; i < sizeof(rpl.features.padding); i++)
		TEST_ASSERT_EQ(rpl.features.padding[i], 0);
}

TEST_F(kvmi_command, check)
{
	static const u16 unknown_events[] = { 2, 4, 20, 21, 100, 0xffff };
	struct kvmi_vm_check_command cmd = { .id = KVMI_VM_GET_INFO };
	struct kvmi_vm_check_event event = { .id = KVMI_VCPU_EVENT_PAUSE };
	int i;

	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_COMMAND, &cmd, sizeof(cmd), NULL, 0), 0);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_EVENT, &event, sizeof(event),
				NULL, 0), 0);

	cmd.padding1 = 1;
	event.padding1 = 1;
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_COMMAND, &cmd, sizeof(cmd), NULL, 0),
		       -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_EVENT, &event, sizeof(event), NULL, 0),
		       -KVM_EINVAL);
	cmd.padding1 = 0;
	event.padding1 = 0;
	cmd.padding2 = 1u << 31;
	event.padding2 = 1u << 31;
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_COMMAND, &cmd, sizeof(cmd), NULL, 0),
		       -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_EVENT, &event, sizeof(event), NULL, 0),
		       -KVM_EINVAL);

	event.padding2 = 0;
	for (i = 0; i < ARRAY_SIZE(unknown_events); i++) {
		event.id = unknown_events[i];
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CHECK_EVENT, &event, sizeof(event),
					NULL, 0), -KVM_ENOENT);
	}
}

TEST_F(kvmi_command, vm_get_info)
{
	struct kvmi_vm_get_info_reply rpl;

	memset(&rpl, 0xff, sizeof(rpl));
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_INFO, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.vcpu_count, 1);
	TEST_ASSERT(!rpl.padding[0] && !rpl.padding[1] && !rpl.padding[2], "Padding");
}

TEST_F(kvmi_command, vm_control_events)
{
	static const struct kvmi_vm_control_events bad[] = {
		{ .event_id = KVMI_VM_EVENT_UNHOOK, .enable = 2 },
		{ .event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1, .padding1 = 1 },
		{ .event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1, .padding2 = 1 },
		{ .event_id = KVMI_VCPU_EVENT_PAUSE, .enable = 1 },
		{ .event_id = 2, .enable = 1 },
		{ .event_id = 100, .enable = 1 },
		{ .event_id = 0xffff, .enable = 0 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_EVENTS, &bad[i],
					sizeof(bad[i]), NULL, 0), -KVM_EINVAL);

	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 0), 0);

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VM_EVENT_UNHOOK, 0), 0);
	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 1), -KVM_EPERM);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_EVENTS, &bad[0],
				sizeof(bad[0]), NULL, 0), -KVM_EINVAL);
}

#define HOLE_GPA	BIT_ULL(46)

static void check_access_errors(struct kvmi_tool *tool, u16 id)
{
	static const struct {
		u64 gpa;
		u16 size;
		u16 padding1;
		u32 padding2;
		int err;
	} cases[] = {
		{ 0x1000, 0, 0, 0, -KVM_EINVAL },
		{ 0x1000, 4097, 0, 0, -KVM_EINVAL },
		{ 0x1001, 4096, 0, 0, -KVM_EINVAL },
		{ 0x1fff, 2, 0, 0, -KVM_EINVAL },
		{ 0x1000, 8, 1, 0, -KVM_EINVAL },
		{ 0x1000, 8, 0, 1, -KVM_EINVAL },
		{ HOLE_GPA, 8, 0, 0, -KVM_ENOENT },
		{ ~0ull & ~7ull, 8, 0, 0, -KVM_ENOENT },
		{ 0xfee00000, 8, 0, 0, -KVM_ENOENT },
	};
	struct {
		struct kvmi_vm_write_physical req;
		u8 data[4097];
	} msg = {};
	u8 reply[8184];
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		msg.req.gpa = cases[i].gpa;
		msg.req.size = cases[i].size;
		msg.req.padding1 = cases[i].padding1;
		msg.req.padding2 = cases[i].padding2;
		TEST_ASSERT_EQ(kvmi_cmd_any(tool, id, &msg, sizeof(msg.req) + cases[i].size,
					    reply, sizeof(reply), NULL), cases[i].err);
	}
}

TEST_F(kvmi_command, read_physical)
{
	gva_t gva = vm_alloc_page(self->vm);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	u8 *hva = addr_gva2hva(self->vm, gva);
	static const u16 sizes[] = { 1, 2, 7, 8, 100, 4095, 4096 };
	u8 data[4096];
	int i;

	for (i = 0; i < 4096; i++)
		hva[i] = i * 7;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		TEST_ASSERT_EQ(kvmi_read_physical(self->tool, gpa, data, sizes[i]), 0);
		TEST_ASSERT(!memcmp(data, hva, sizes[i]), "%u bytes", sizes[i]);

		/* Up to the end of the page. */
		TEST_ASSERT_EQ(kvmi_read_physical(self->tool, gpa + 4096 - sizes[i],
						  data, sizes[i]), 0);
		TEST_ASSERT(!memcmp(data, hva + 4096 - sizes[i], sizes[i]),
			    "%u bytes at the end", sizes[i]);
	}

	check_access_errors(self->tool, KVMI_VM_READ_PHYSICAL);
}

TEST_F(kvmi_command, write_physical)
{
	gva_t gva = vm_alloc_page(self->vm);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	u8 *hva = addr_gva2hva(self->vm, gva);
	static const u16 sizes[] = { 1, 2, 7, 8, 100, 4095, 4096 };
	u8 data[4096], expected[4096];
	int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < sizes[i]; j++)
			data[j] = i * 31 + j;
		memset(hva, 0x55, 4096);
		memset(expected, 0x55, 4096);
		memcpy(expected + 4096 - sizes[i], data, sizes[i]);
		TEST_ASSERT_EQ(kvmi_write_physical(self->tool, gpa + 4096 - sizes[i],
						   data, sizes[i]), 0);
		TEST_ASSERT(!memcmp(hva, expected, 4096), "%u bytes", sizes[i]);
	}

	memset(hva, 0, 4096);
	check_access_errors(self->tool, KVMI_VM_WRITE_PHYSICAL);
	for (i = 0; i < 4096; i++)
		TEST_ASSERT_EQ(hva[i], 0);
}

/* The data is missing: what would be written? */
TEST_F(kvmi_command, write_physical_short_closes)
{
	static const size_t lens[] = { 0, 8, 15, 16, 23 };
	struct {
		struct kvmi_vm_write_physical req;
		u8 data[8];
	} msg = { .req.gpa = 0x1000, .req.size = 8 };
	int i;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		kvmi_send(self->tool, KVMI_VM_WRITE_PHYSICAL, &msg, lens[i]);
		kvmi_expect_closed(self->tool);
		kvmi_unhook(self->vm);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

#define SLOT		10
#define SLOT_GPA	(4ull << 30)
#define SLOT_PAGES	4096

/* Memory that the guest may only read may not be written by the tool either. */
TEST_F(kvmi_command, read_only_memory)
{
	u64 word = 1;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_READONLY_MEM));
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT, 4,
				    KVM_MEM_READONLY);
	TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA, &word, 8), 0);
	TEST_ASSERT_EQ(word, 0);
	word = 1;
	TEST_ASSERT_EQ(kvmi_write_physical(self->tool, SLOT_GPA, &word, 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA, &word, 8), 0);
	TEST_ASSERT_EQ(word, 0);
}

/* The host has no memory there any more. */
TEST_F(kvmi_command, unmapped_memory)
{
	u64 word = 1;

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT, 4, 0);
	munmap(addr_gpa2hva(self->vm, SLOT_GPA), 4096);
	TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA, &word, 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(kvmi_write_physical(self->tool, SLOT_GPA, &word, 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA + 4096, &word, 8), 0);
}

static void check_dirty(struct kvm_vm *vm, int page)
{
	unsigned long bitmap[SLOT_PAGES / 64] = {};
	int i;

	kvm_vm_get_dirty_log(vm, SLOT, bitmap);
	for (i = 0; i < SLOT_PAGES; i++)
		TEST_ASSERT(!!(bitmap[i / 64] & BIT(i % 64)) == (i == page),
			    "Page %d is %sdirty, written was page %d", i,
			    i == page ? "not " : "", page);
}

/* What the tool writes is in the dirty log, whoever carries it out. */
TEST_F(kvmi_command, dirty_log)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 word = 1;

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT,
				    SLOT_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
	check_dirty(self->vm, -1);

	TEST_ASSERT_EQ(kvmi_write_physical(self->tool, SLOT_GPA + 7 * 4096 + 8, &word, 8), 0);
	check_dirty(self->vm, 7);
	TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA + 9 * 4096, &word, 8), 0);
	check_dirty(self->vm, -1);

	/* A vCPU that waits for the tool does the work. */
	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	TEST_ASSERT_EQ(kvmi_write_physical(self->tool, SLOT_GPA + 4095 * 4096, &word, 8), 0);
	check_dirty(self->vm, 4095);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

/*
 * With a dirty ring only a vCPU can tell that a page is dirty: the command waits
 * for one. Its ring has room for so many entries.
 */
TEST(kvmi_dirty_ring)
{
	u32 ring_size = 4096 * 4, entries = ring_size / sizeof(struct kvm_dirty_gfn);
	struct {
		struct kvmi_vm_write_physical req;
		u64 word;
	} msg = { .req.gpa = SLOT_GPA, .req.size = 8, .word = 1 };
	struct kvm_dirty_gfn *ring;
	struct kvmi_runner runner;
	struct kvmi_tool *tool;
	struct kvm_vcpu *vcpu;
	struct kvmi_ev ev;
	struct kvm_vm *vm;
	int err, n, i;
	u32 seq;

	if (kvm_check_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL) < ring_size)
		SKIP(return, "This kernel has no dirty rings");

	vm = vm_create(1);
	vm_enable_dirty_ring(vm, ring_size);
	vcpu = vm_vcpu_add(vm, 0, guest_loop);
	ring = vcpu_map_dirty_ring(vcpu);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT,
				    SLOT_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
	tool = kvmi_hook(vm);

	/* No vCPU runs. */
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 0), 0);
	seq = kvmi_send(tool, KVMI_VM_WRITE_PHYSICAL, &msg, sizeof(msg));
	kvmi_expect_quiet(tool);
	kvmi_start(&runner, vcpu);
	TEST_ASSERT_EQ(kvmi_recv_reply(tool, KVMI_VM_WRITE_PHYSICAL, seq, NULL, 0, NULL), 0);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(ring[0].flags, KVM_DIRTY_GFN_F_DIRTY);
	TEST_ASSERT_EQ(ring[0].slot, SLOT);
	TEST_ASSERT_EQ(ring[0].offset, 0);

	/* As many as there is room for; then the vCPU has to run first. */
	for (n = 1, err = 0; !err && n <= entries; n += !err) {
		msg.req.gpa = SLOT_GPA + n * 4096;
		err = kvmi_cmd(tool, KVMI_VM_WRITE_PHYSICAL, &msg, sizeof(msg), NULL, 0);
	}
	TEST_ASSERT_EQ(err, -KVM_EAGAIN);
	TEST_ASSERT(n > 16, "There was room for %d pages", n);
	for (i = 0; i < n; i++) {
		TEST_ASSERT_EQ(ring[i].flags, KVM_DIRTY_GFN_F_DIRTY);
		TEST_ASSERT_EQ(ring[i].offset, i);
	}
	TEST_ASSERT_EQ(*(u64 *)addr_gpa2hva(vm, SLOT_GPA + (n - 1) * 4096), 1);
	TEST_ASSERT_EQ(*(u64 *)addr_gpa2hva(vm, SLOT_GPA + n * 4096), 0);

	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_DIRTY_RING_FULL);

	/* The VMM makes room. */
	for (i = 0; i < n; i++)
		ring[i].flags = KVM_DIRTY_GFN_F_RESET;
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(vm), n);
	kvmi_start_paused(tool, &runner, vcpu, &ev);
	TEST_ASSERT_EQ(kvmi_cmd(tool, KVMI_VM_WRITE_PHYSICAL, &msg, sizeof(msg), NULL, 0), 0);
	TEST_ASSERT_EQ(ring[n].flags, KVM_DIRTY_GFN_F_DIRTY);
	TEST_ASSERT_EQ(ring[n].offset, n);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);

	kvmi_free(tool);
	kvm_vm_free(vm);
}

TEST_F(kvmi_command, pause_vcpu_errors)
{
	static const struct kvmi_vm_pause_vcpu bad[] = {
		{ .vcpu = 0, .wait = 2 },
		{ .vcpu = 0, .padding1 = 1 },
		{ .vcpu = 0, .padding2 = 1 },
		{ .vcpu = 1 },
		{ .vcpu = 1, .wait = 1 },
		{ .vcpu = 0xffff },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_PAUSE_VCPU, &bad[i],
					sizeof(bad[i]), NULL, 0), -KVM_EINVAL);
}

TEST_F(kvmi_command, control_cleanup_errors)
{
	struct kvmi_vm_control_cleanup req = { .enable = 2 };
	int i;

	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req), NULL, 0),
		       -KVM_EINVAL);
	for (i = 0; i < sizeof(req.padding); i++) {
		memset(&req, 0, sizeof(req));
		req.padding[i] = 1;
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req),
					NULL, 0), -KVM_EINVAL);
	}
	memset(&req, 0, sizeof(req));
	for (req.enable = 0; req.enable < 2; req.enable++)
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req),
					NULL, 0), 0);
}

TEST_F(kvmi_command, get_max_gfn)
{
	struct kvmi_vm_get_max_gfn_reply rpl;

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT, 16, 0);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.gfn, (SLOT_GPA >> 12) + 16);

	/* What cannot be written does not count. */
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA + (1 << 20),
				    SLOT + 1, 16, KVM_MEM_READONLY);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.gfn, (SLOT_GPA >> 12) + 16);

	vm_mem_region_delete(self->vm, SLOT);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &rpl, sizeof(rpl)), 0);
	TEST_ASSERT(rpl.gfn && rpl.gfn <= SLOT_GPA >> 12, "gfn %llx", rpl.gfn);
}

/* What all vCPU commands check. */
TEST_F(kvmi_command, vcpu_header)
{
	static const u16 ids[] = {
		KVMI_VCPU_GET_INFO, KVMI_VCPU_CONTROL_EVENTS, KVMI_VCPU_GET_REGISTERS,
		KVMI_VCPU_SET_REGISTERS, KVMI_VCPU_GET_CPUID, KVMI_VCPU_CONTROL_CR,
		KVMI_VCPU_INJECT_EXCEPTION, KVMI_VCPU_GET_XCR, KVMI_VCPU_GET_XSAVE,
		KVMI_VCPU_SET_XSAVE, KVMI_VCPU_GET_MTRR_TYPE, KVMI_VCPU_CONTROL_MSR,
		KVMI_VCPU_CONTROL_SINGLESTEP, KVMI_VCPU_TRANSLATE_GVA,
	};
	static const struct kvmi_vcpu_hdr bad[] = {
		{ .vcpu = 0, .padding1 = 1 },
		{ .vcpu = 0, .padding2 = 1 },
		{ .vcpu = 1 },
		{ .vcpu = 0xffff },
	};
	int i, j;

	for (i = 0; i < ARRAY_SIZE(ids); i++)
		for (j = 0; j < ARRAY_SIZE(bad); j++)
			TEST_ASSERT_EQ(kvmi_cmd(self->tool, ids[i], &bad[j], sizeof(bad[j]),
						NULL, 0), -KVM_EINVAL);
}

TEST_F(kvmi_command, vcpu_get_info)
{
	struct kvmi_vcpu_get_info_reply rpl = { .tsc_speed = ~0ull };
	u64 khz = __vcpu_ioctl(self->vcpu[0], KVM_GET_TSC_KHZ, NULL);
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0,
				     &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.tsc_speed, kvm_has_cap(KVM_CAP_TSC_CONTROL) ? khz * 1000 : 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

TEST_F(kvmi_command, vcpu_control_events)
{
	static const struct kvmi_vcpu_control_events bad[] = {
		{ .event_id = KVMI_VCPU_EVENT_HYPERCALL, .enable = 2 },
		{ .event_id = KVMI_VCPU_EVENT_HYPERCALL, .padding1 = 1 },
		{ .event_id = KVMI_VCPU_EVENT_HYPERCALL, .padding2 = 1 },
		{ .event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1 },
		{ .event_id = 2 },
		{ .event_id = 21, .enable = 1 },
		{ .event_id = 0xffff },
	};
	static const u16 events[] = {
		KVMI_VCPU_EVENT_PAUSE, KVMI_VCPU_EVENT_HYPERCALL, KVMI_VCPU_EVENT_BREAKPOINT,
		KVMI_VCPU_EVENT_CR, KVMI_VCPU_EVENT_TRAP, KVMI_VCPU_EVENT_XSETBV,
		KVMI_VCPU_EVENT_DESCRIPTOR, KVMI_VCPU_EVENT_MSR, KVMI_VCPU_EVENT_SINGLESTEP,
	};
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, enable, err;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_CONTROL_EVENTS, 0, &bad[i],
					     sizeof(bad[i]), NULL, 0), -KVM_EINVAL);

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		/* Not every processor can do these. */
		err = kvmi_control_event(self->tool, 0, events[i], 1);
		if (err == -KVM_EOPNOTSUPP && (events[i] == KVMI_VCPU_EVENT_DESCRIPTOR ||
					       events[i] == KVMI_VCPU_EVENT_XSETBV))
			continue;

		/* Twice the same is fine. */
		for (enable = 0; enable < 4; enable++)
			TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, events[i], enable / 2), 0);
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, events[i], 0), 0);
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
						  events[i], 0), 0);
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, events[i], 1), -KVM_EPERM);
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
						  events[i], 1), 0);
	}

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

static int get_registers(struct kvmi_tool *tool, const u32 *msrs, u16 nmsrs,
			 size_t len, struct kvmi_vcpu_get_registers_reply *rpl)
{
	struct {
		struct kvmi_vcpu_get_registers req;
		u32 msrs[1024];
	} msg = { .req.nmsrs = nmsrs };

	if (nmsrs)
		memcpy(msg.msrs, msrs, nmsrs * sizeof(*msrs));
	return kvmi_vcpu_cmd(tool, KVMI_VCPU_GET_REGISTERS, 0, &msg, len, rpl,
			     sizeof(*rpl) + nmsrs * sizeof(struct kvm_msr_entry));
}

/* They are what the VMM sees. */
TEST_F(kvmi_command, get_registers)
{
	static const u32 msrs[] = { MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_IA32_CR_PAT, MSR_EFER };
	struct {
		struct kvmi_vcpu_get_registers_reply rpl;
		struct kvm_msr_entry entries[ARRAY_SIZE(msrs)];
	} msg;
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	size_t len;
	int i;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	vcpu_set_msr(self->vcpu[0], MSR_LSTAR, 0x123456789000);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);

	memset(&msg, 0xff, sizeof(msg));
	len = sizeof(struct kvmi_vcpu_get_registers) + sizeof(msrs);
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, ARRAY_SIZE(msrs), len, &msg.rpl), 0);
	TEST_ASSERT_EQ(msg.rpl.mode, 8);
	TEST_ASSERT_EQ(msg.rpl.padding, 0);
	TEST_ASSERT_EQ(msg.rpl.msrs.nmsrs, ARRAY_SIZE(msrs));
	TEST_ASSERT_EQ(msg.rpl.msrs.pad, 0);
	TEST_ASSERT(!memcmp(&msg.rpl.regs, &ev.common.arch.regs, sizeof(msg.rpl.regs)),
		    "regs differ from those in the event");
	TEST_ASSERT(!memcmp(&msg.rpl.sregs, &ev.common.arch.sregs, sizeof(msg.rpl.sregs)),
		    "sregs differ from those in the event");

	/* The vCPU has not moved when the VMM looks. */
	WRITE_ONCE(runner.leave, true);
	kvmi_interrupt(&runner);
	kvmi_join(&runner);
	vcpu_regs_get(self->vcpu[0], &regs);
	vcpu_sregs_get(self->vcpu[0], &sregs);
	TEST_ASSERT(!memcmp(&msg.rpl.regs, &regs, sizeof(regs)), "regs");
	TEST_ASSERT(!memcmp(&msg.rpl.sregs, &sregs, sizeof(sregs)), "sregs");
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		TEST_ASSERT_EQ(msg.entries[i].index, msrs[i]);
		TEST_ASSERT_EQ(msg.entries[i].reserved, 0);
		TEST_ASSERT_EQ(msg.entries[i].data, vcpu_get_msr(self->vcpu[0], msrs[i]));
	}
	TEST_ASSERT_EQ(ev.common.arch.msrs.efer, msg.entries[0].data);
	TEST_ASSERT_EQ(ev.common.arch.msrs.star, msg.entries[1].data);
	TEST_ASSERT_EQ(ev.common.arch.msrs.lstar, 0x123456789000);
	TEST_ASSERT_EQ(ev.common.arch.msrs.pat, msg.entries[3].data);
}

TEST_F(kvmi_command, get_registers_errors)
{
	struct kvmi_vcpu_get_registers req = { .padding1 = 1 };
	static struct {
		struct kvmi_vcpu_get_registers_reply rpl;
		struct kvm_msr_entry entries[1024];
	} msg;
	static u32 msrs[1024];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	size_t len;
	int i;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);

	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_REGISTERS, 0, &req, sizeof(req),
				     NULL, 0), -KVM_EINVAL);
	req.padding1 = 0;
	req.padding2 = 1;
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_REGISTERS, 0, &req, sizeof(req),
				     NULL, 0), -KVM_EINVAL);

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		msrs[i] = MSR_EFER;

	/* Fewer indexes than it says. */
	len = sizeof(req);
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 1, len, &msg.rpl), -KVM_EINVAL);
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 2, len + 7, &msg.rpl), -KVM_EINVAL);

	/* As many as fit into the reply, and one more. */
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 481, len + 481 * 4, &msg.rpl), 0);
	for (i = 0; i < 481; i++)
		TEST_ASSERT_EQ(msg.entries[i].data, ev.common.arch.msrs.efer);
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 482, len + 482 * 4, &msg.rpl), -KVM_EINVAL);

	/* No such MSR. */
	msrs[3] = 0xdeadbeef;
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 3, len + 3 * 4, &msg.rpl), 0);
	TEST_ASSERT_EQ(get_registers(self->tool, msrs, 4, len + 4 * 4, &msg.rpl), -KVM_EINVAL);

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

/* 16- and 32-bit code, told before the guest executes any of it. */
static void check_mode(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u32 mode)
{
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	kvmi_start_paused(tool, &runner, vcpu, &ev);
	TEST_ASSERT_EQ(ev.common.arch.mode, mode);
	TEST_ASSERT_EQ(get_registers(tool, NULL, 0, sizeof(struct kvmi_vcpu_get_registers),
				     &rpl), 0);
	TEST_ASSERT_EQ(rpl.mode, mode);

	/* Leave without ever having entered the guest. */
	WRITE_ONCE(runner.leave, true);
	kvmi_interrupt(&runner);
	kvmi_join(&runner);
	kvmi_unhook(tool->vm);
}

TEST_F(kvmi_command, mode)
{
	struct kvm_sregs sregs, original;

	vcpu_sregs_get(self->vcpu[0], &original);

	sregs = original;
	sregs.cr0 = 0x10 | X86_CR0_PE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	vcpu_sregs_set(self->vcpu[0], &sregs);
	check_mode(self->tool, self->vcpu[0], 4);

	kvmi_free(self->tool);
	self->tool = kvmi_hook(self->vm);
	sregs.cr0 = 0x10;
	sregs.cs.db = 0;
	vcpu_sregs_set(self->vcpu[0], &sregs);
	check_mode(self->tool, self->vcpu[0], 2);

	/* Compatibility mode. */
	kvmi_free(self->tool);
	self->tool = kvmi_hook(self->vm);
	sregs = original;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	vcpu_sregs_set(self->vcpu[0], &sregs);
	check_mode(self->tool, self->vcpu[0], 4);
}

TEST_F(kvmi_command, set_registers_errors)
{
	struct kvmi_runner runner;
	struct kvm_regs regs = {};
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start(&runner, self->vcpu[0]);

	/* Not while the vCPU runs. */
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_SET_REGISTERS, 0, &regs,
				     sizeof(regs) - 1, NULL, 0), -KVM_EINVAL);
	kvmi_stop(&runner);

	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	regs = ev.common.arch.regs;
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_SET_REGISTERS, 0, &regs,
				     sizeof(regs) - 1, NULL, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_SET_REGISTERS, 0, NULL, 0,
				     NULL, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

TEST_F(kvmi_command, get_cpuid)
{
	struct kvmi_vcpu_get_cpuid_reply rpl;
	struct kvmi_vcpu_get_cpuid req = {};
	struct kvm_cpuid_entry2 *entry;
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, checked = 0;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);

	for (i = 0; i < self->vcpu[0]->cpuid->nent; i++) {
		entry = &self->vcpu[0]->cpuid->entries[i];
		req.function = entry->function;
		req.index = entry->index;
		memset(&rpl, 0xff, sizeof(rpl));
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_CPUID, 0, &req,
					     sizeof(req), &rpl, sizeof(rpl)), 0);
		/* These have bits that depend on the state of the vCPU. */
		if (entry->function == 1 || entry->function == 7 || entry->function == 0xd ||
		    entry->function >= 0x40000000)
			continue;
		checked++;
		TEST_ASSERT(rpl.eax == entry->eax && rpl.ebx == entry->ebx &&
			    rpl.ecx == entry->ecx && rpl.edx == entry->edx,
			    "Leaf %x.%x", entry->function, entry->index);
	}
	TEST_ASSERT(checked >= 3, "Only %d leaves could be compared", checked);

	/* OSXSAVE is that of the guest's CR4. */
	req.function = 1;
	req.index = 0;
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_CPUID, 0, &req,
				     sizeof(req), &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(!!(rpl.ecx & BIT(27)),
		       !!(ev.common.arch.sregs.cr4 & X86_CR4_OSXSAVE));

	req.function = 0x12345;
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_CPUID, 0, &req,
				     sizeof(req), &rpl, sizeof(rpl)), -KVM_ENOENT);

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

/* Commands to a vCPU that does not run are kept, but not without limit. */
TEST_F(kvmi_command, too_many)
{
	struct kvmi_vcpu_get_info_reply info;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
		u8 data[sizeof(struct kvmi_get_version_reply)];
	} msg;
	struct kvmi_runner runner;
	u32 kept[10000];
	int i, nr = 0, refused = 0;

	while (refused < 10 && nr < ARRAY_SIZE(kept)) {
		kept[nr++] = kvmi_send_vcpu(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0);
		kvmi_send(self->tool, KVMI_GET_VERSION, NULL, 0);

		/* What is refused is answered at once, and in order. */
		for (;;) {
			TEST_ASSERT(kvmi_recv(self->tool, &msg.hdr, &msg.ec,
					      sizeof(msg.ec) + sizeof(msg.data)), "Closed");
			if (msg.hdr.id == KVMI_GET_VERSION)
				break;
			TEST_ASSERT_EQ(msg.hdr.seq, kept[nr - 1]);
			TEST_ASSERT_EQ(msg.ec.err, -KVM_EBUSY);
			refused++;
			nr--;
		}
	}
	TEST_ASSERT(nr > 10 && refused == 10, "%d were kept, %d refused", nr, refused);

	/* The others in order, once the vCPU runs. */
	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start(&runner, self->vcpu[0]);
	for (i = 0; i < nr; i++)
		TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VCPU_GET_INFO, kept[i],
					       &info, sizeof(info), NULL), 0);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0,
				     &info, sizeof(info)), 0);
	kvmi_stop(&runner);
}

static u64 get_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	u64 data = ~0ull;
	u32 i;

	read_stats_header(fd, &header);
	desc = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		struct kvm_stats_desc *d = get_stats_descriptor(desc, i, &header);

		if (!strcmp(d->name, name))
			read_stat_data(fd, &header, d, &data, 1);
	}
	free(desc);
	TEST_ASSERT(data != ~0ull, "No statistic %s", name);

	return data;
}

/* The counters that KVM shows to the VMM. */
TEST_F(kvmi_command, statistics)
{
	int vm_fd = vm_get_stats_fd(self->vm), vcpu_fd = vcpu_get_stats_fd(self->vcpu[0]);
	struct kvmi_runner runner;
	u64 commands, events;
	struct kvmi_ev ev;
	int i;

	TEST_ASSERT_EQ(get_stat(vm_fd, "introspection_hooks"), 1);
	commands = get_stat(vm_fd, "introspection_commands");
	for (i = 0; i < 5; i++)
		kvmi_check_version(self->tool);
	TEST_ASSERT_EQ(get_stat(vm_fd, "introspection_commands"), commands + 5);

	events = get_stat(vcpu_fd, "introspection_events");
	TEST_ASSERT_EQ(get_stat(vcpu_fd, "introspection_interrupted"), 0);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	TEST_ASSERT_EQ(get_stat(vcpu_fd, "introspection_events"), events + 1);
	kvmi_interrupt(&runner);
	TEST_ASSERT(get_stat(vcpu_fd, "introspection_interrupted") >= 1, "Not counted");
	TEST_ASSERT_EQ(get_stat(vcpu_fd, "introspection_lost"), 0);
	kvmi_unhook(self->vm);
	kvmi_stop(&runner);
	TEST_ASSERT_EQ(get_stat(vcpu_fd, "introspection_events"), events + 1);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
