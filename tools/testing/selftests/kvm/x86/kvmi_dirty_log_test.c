// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the log of dirty pages is complete while the tool has things
 * intercepted, and afterwards. On Intel, PML is switched by the same controls.
 */
#include <linux/bitmap.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

/* More than the 512 entries of a PML buffer, and half of them are written. */
#define LOG_SLOT	10
#define LOG_PAGES	1280
#define LOG_GPA		0x10000000ul
#define LOG_GVA		0xc0000000ul

KVMI_TEST_SUITE(kvmi_dirty_log, 1);

/* Write every second page, from the first or the second on, and have events between. */
static u64 guest_write(u64 first, u64 value)
{
	struct desc_ptr dt;
	u64 i;

	for (i = first; i < LOG_PAGES; i += 2) {
		WRITE_ONCE(*(u64 *)(LOG_GVA + i * 4096), value + i);
		if (i % 256 > 1)
			continue;
		wrmsr(MSR_LSTAR, value + i);
		set_cr4(get_cr4() ^ X86_CR4_TSD);
		asm volatile("sgdt %0" : "=m"(dt));
	}

	return 0;
}

#define EVENTS	(LOG_PAGES / 256 * 3)

static void control_events(struct kvmi_tool *tool, u8 enable)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_MSR, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, MSR_LSTAR, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_CR, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 4, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 3, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_DESCRIPTOR, enable), 0);
}

/* What was written is in the log, and nothing else; getting the log clears it. */
static void check_log(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, unsigned long *log,
		      int first, int events)
{
	static u64 value;
	struct kvmi_ev ev;
	int i;

	value += 0x100000;
	kvmi_call_begin(vcpu, guest_write, first, value);
	for (i = 0; i < events; i++) {
		TEST_ASSERT(kvmi_next_event(tool, &ev), "Closed");
		kvmi_let_pass(tool, &ev);
	}
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	if (tool)
		kvmi_expect_quiet(tool);

	kvm_vm_get_dirty_log(vcpu->vm, LOG_SLOT, log);
	for (i = 0; i < LOG_PAGES; i++)
		TEST_ASSERT(test_bit(i, log) == ((i & 1) == first),
			    "Page %d is %sin the log", i, test_bit(i, log) ? "" : "not ");
	kvm_vm_get_dirty_log(vcpu->vm, LOG_SLOT, log);
	for (i = 0; i < LOG_PAGES; i++)
		TEST_ASSERT(!test_bit(i, log), "Page %d is still in the log", i);
}

static void check_logs(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, unsigned long *log,
		       int events)
{
	int i;

	for (i = 0; i < 4; i++)
		check_log(tool, vcpu, log, i & 1, events);
}

static void add_slot(struct kvm_vm *vm)
{
	vm_userspace_mem_region_add(vm, DEFAULT_VM_MEM_SRC, LOG_GPA, LOG_SLOT, LOG_PAGES, 0);
	virt_map(vm, LOG_GVA, LOG_GPA, LOG_PAGES);
}

/* The log is switched on while the tool has its events, or it is on before. */
static void test_log(struct kvmi_tool **tool, struct kvm_vcpu *vcpu, bool log_first)
{
	struct kvm_vm *vm = vcpu->vm;
	unsigned long *log = bitmap_zalloc(LOG_PAGES);
	struct kvmi_runner runner;
	int round;

	add_slot(vm);
	kvmi_start_agent(&runner, vcpu);
	if (!log_first)
		control_events(*tool, 1);
	vm_mem_region_set_flags(vm, LOG_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	if (log_first)
		check_logs(*tool, vcpu, log, 0);

	for (round = 0; round < 2; round++) {
		control_events(*tool, 1);
		check_logs(*tool, vcpu, log, EVENTS);
		control_events(*tool, 0);
		check_logs(*tool, vcpu, log, 0);
		control_events(*tool, 1);
		kvmi_unhook(vm);
		check_logs(NULL, vcpu, log, 0);
		*tool = kvmi_rehook(*tool);
	}

	/* Off and on, while the tool has its events. */
	control_events(*tool, 1);
	vm_mem_region_set_flags(vm, LOG_SLOT, 0);
	vm_mem_region_set_flags(vm, LOG_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	check_logs(*tool, vcpu, log, EVENTS);
	kvmi_stop(&runner);
	free(log);
}

TEST_F(kvmi_dirty_log, log_first)
{
	test_log(&self->tool, self->vcpu[0], true);
}

TEST_F(kvmi_dirty_log, events_first)
{
	test_log(&self->tool, self->vcpu[0], false);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
