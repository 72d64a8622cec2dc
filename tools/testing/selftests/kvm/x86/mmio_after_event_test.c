// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first that a guest does after an event was injected is an access to MMIO, in the
 * event's handler. The event has been delivered, so that there is nothing that KVM could
 * not emulate, even if the processor still tells what event it was.
 */
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define MMIO_GPA	0xc0000000ul
#define ROUNDS		10

static gpa_t guest_gpa = MMIO_GPA;

/*
 * A page that KVM knows nothing of yet, each time. The first time there may be other
 * exits before, for the stack and the code of this.
 */
static void guest_mmio(struct ex_regs *regs)
{
	WRITE_ONCE(*(u64 *)guest_gpa, 1);
	guest_gpa += PAGE_SIZE;
}

static void guest_code(void)
{
	for (;;)
		GUEST_SYNC(0);
}

int main(void)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	int i;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	virt_map(vm, MMIO_GPA, MMIO_GPA, ROUNDS);
	vm_install_exception_handler(vm, UD_VECTOR, guest_mmio);

	for (i = 0; i < ROUNDS; i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);

		vcpu_events_get(vcpu, &events);
		events.exception.injected = 1;
		events.exception.nr = UD_VECTOR;
		events.exception.has_error_code = 0;
		vcpu_events_set(vcpu, &events);

		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT(vcpu->run->mmio.is_write, "MMIO is read");
		TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, MMIO_GPA + i * PAGE_SIZE);
	}

	kvm_vm_free(vm);
	return 0;
}
