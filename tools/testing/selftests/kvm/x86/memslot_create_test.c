// SPDX-License-Identifier: GPL-2.0-only
/*
 * A memslot is created and deleted while vCPUs read from it. What they get is from
 * memory, or from the VMM as long as there is none; KVM must expect that a memslot
 * appears while it handles a fault that has found none.
 */
#include <pthread.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define NR_VCPUS	4
#define ROUNDS		500
#define SLOT		10
#define GPA		0xc0000000ul
#define IN_MEMORY	0x1111111111111111ul
#define FROM_VMM	0x2222222222222222ul

static bool stop;
static u64 nr_mmio[NR_VCPUS];

static void guest_read(void)
{
	u64 value;

	for (;;) {
		value = READ_ONCE(*(u64 *)GPA);
		__GUEST_ASSERT(value == IN_MEMORY || value == FROM_VMM,
			       "Read 0x%lx", (unsigned long)value);
	}
}

static void *run_vcpu(void *arg)
{
	u64 value = FROM_VMM;
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	while (!READ_ONCE(stop)) {
		vcpu_run(vcpu);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			TEST_ASSERT_EQ(run->mmio.phys_addr, GPA);
			TEST_ASSERT_EQ(run->mmio.len, sizeof(value));
			memcpy(run->mmio.data, &value, sizeof(value));
			nr_mmio[vcpu->id]++;
			continue;
		}

		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_ABORT);
		REPORT_GUEST_ASSERT(uc);
	}

	return NULL;
}

int main(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	struct kvm_vm *vm;
	u64 *mem;
	int i;

	mem = kvm_mmap(getpagesize(), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	*mem = IN_MEMORY;

	vm = vm_create_with_vcpus(NR_VCPUS, guest_read, vcpus);
	virt_map(vm, GPA, GPA, 1);

	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_vcpu, vcpus[i]),
			    "pthread_create");

	/* Of different lengths, so that it happens at all points of a fault. */
	for (i = 0; i < ROUNDS; i++) {
		vm_set_user_memory_region(vm, SLOT, 0, GPA, getpagesize(), mem);
		usleep(i % 7 * 100);
		vm_set_user_memory_region(vm, SLOT, 0, GPA, 0, NULL);
		usleep(i % 5 * 100);
	}

	WRITE_ONCE(stop, true);
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(threads[i], NULL);
		TEST_ASSERT(nr_mmio[i], "vCPU %d has never found the memslot gone", i);
	}

	kvm_vm_free(vm);
	return 0;
}
