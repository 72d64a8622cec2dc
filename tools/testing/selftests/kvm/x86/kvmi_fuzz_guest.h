/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: the VM. Its guest does all that there are events for. The tool
 * may do anything to it, so that it can be put back to how it was at first.
 */
#ifndef KVMI_FUZZ_GUEST_H
#define KVMI_FUZZ_GUEST_H

#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "kvmi_fuzz_check.h"
#include "kvmi_fuzz_cover.h"
#include "kvmi_util.h"

#define FUZZ_SLOT		1

#define PROGRESS_PORT		0x2000
#define GIVE_UP_PORT		0x2001

/* So many exits that are no progress, and the guest is lost. */
#define MAX_LOST_EXITS		200

struct fuzz_vcpu {
	struct kvm_vcpu *vcpu;
	struct kvm_x86_state *state;	/* at first */
	pthread_t thread;
	struct cover cover;
	sem_t stopped, go;
	bool stop, end;
	bool calm;		/* after a round: halted, until there is a signal */
	int round_fd;		/* readable after a round */
	u64 progress;
	u32 lost_exits, resets;
};

struct fuzz_vm {
	struct kvm_vm *vm;
	struct fuzz_vcpu vcpus[FUZZ_RUNNING];
	u8 *memory, *copy;		/* of the guest's code and data */
	u64 size;
	u8 *pages, *pages_copy;
	pthread_mutex_t lock;		/* while it is restored */
	u64 resets;
};

static struct fuzz_vm fuzz_vm = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Guest. */

static u64 guest_faults[FUZZ_RUNNING];

/* An exception of an instruction would come for ever. */
static void guest_handler(struct ex_regs *regs)
{
	if (++guest_faults[0] > 32)
		asm volatile("out %%al, %0" : : "d"((u16)GIVE_UP_PORT));
}

static void guest_write_registers(u64 n)
{
	u64 cr3 = get_cr3() ^ BIT(3);
	struct desc_ptr idt = get_idt();
	u32 eax, ebx, ecx, edx;

	set_cr0(get_cr0() ^ X86_CR0_AM);
	set_cr3(cr3);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	wrmsr(MSR_IA32_SYSENTER_EIP, n);
	wrmsr(MSR_LSTAR, n);
	cpuid(0, &eax, &ebx, &ecx, &edx);
	xsetbv(0, n & 1 ? XFEATURE_MASK_FP : XFEATURE_MASK_FP | XFEATURE_MASK_SSE);
	asm volatile("lidt %0" : : "m"(idt));
}

static void guest_main(void)
{
	u64 n, gva;

	kvmi_guest_may_spin();
	for (n = 1;; n++) {
		gva = FUZZ_GPA + n % FUZZ_PAGES * PAGE_SIZE;
		kvmi_guest_hypercall();
		guest_write_registers(n);
		kvmi_guest_fetch(gva, 0);
		kvmi_guest_store(gva + KVMI_PAGE_OFFSET, n);
		kvmi_guest_load(gva + KVMI_PAGE_OFFSET, 0);
		asm volatile("int3");
		WRITE_ONCE(guest_faults[0], 0);
		asm volatile("out %0, %1" : : "a"((u32)n), "d"((u16)PROGRESS_PORT));
	}
}

/* VMM. */

/*
 * What was not written stays so, for KVM's page tables. (memcmp() and memcpy() of these
 * tests are made for guests, and slow.)
 */
static void restore(u8 *memory, const u8 *copy, u64 size)
{
	const u64 *from = (void *)copy, *end = from + size / sizeof(*from);
	u64 *to = (void *)memory;
	int i;

	for (; from < end; from += 8, to += 8) {
		if (!((to[0] ^ from[0]) | (to[1] ^ from[1]) | (to[2] ^ from[2]) |
		      (to[3] ^ from[3]) | (to[4] ^ from[4]) | (to[5] ^ from[5]) |
		      (to[6] ^ from[6]) | (to[7] ^ from[7])))
			continue;
		for (i = 0; i < 8; i++)
			WRITE_ONCE(to[i], from[i]);
	}
}

static void restore_memory(bool all)
{
	pthread_mutex_lock(&fuzz_vm.lock);
	if (all)
		restore(fuzz_vm.memory, fuzz_vm.copy, fuzz_vm.size);
	restore(fuzz_vm.pages, fuzz_vm.pages_copy, FUZZ_PAGES * PAGE_SIZE);
	pthread_mutex_unlock(&fuzz_vm.lock);
}

/* The guest is lost, by what the tool has done. */
static void rescue(struct fuzz_vcpu *self)
{
	/* The memory, only if the registers were not enough. */
	if (self->resets++)
		restore_memory(true);
	vcpu_load_state(self->vcpu, self->state);
	self->calm = false;
	self->lost_exits = 0;
	__atomic_fetch_add(&fuzz_vm.resets, 1, __ATOMIC_RELAXED);
}

static __thread struct kvm_run *own_run;

/* Also if it comes before KVM_RUN has begun. */
static void leave_kvm_run(int sig)
{
	if (own_run)
		own_run->immediate_exit = 1;
}

/*
 * As if the guest had executed HLT: the processor is left to the tool, while KVM still
 * carries out what the tool wants of this vCPU.
 */
static void calm_down(struct fuzz_vcpu *self)
{
	struct kvm_mp_state halted = { .mp_state = KVM_MP_STATE_HALTED };

	vcpu_mp_state_set(self->vcpu, &halted);
	WRITE_ONCE(self->calm, true);
	eventfd_write(self->round_fd, 1);
}

static void wake_up(struct fuzz_vcpu *self)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	vcpu_mp_state_set(self->vcpu, &runnable);
	WRITE_ONCE(self->calm, false);
}

static void handle_exit(struct fuzz_vcpu *self)
{
	struct kvm_run *run = own_run;

	if (run->exit_reason == KVM_EXIT_IO && run->io.port == PROGRESS_PORT) {
		WRITE_ONCE(self->progress, self->progress + 1);
		self->lost_exits = 0;
		self->resets = 0;
		calm_down(self);
		return;
	}
	if (run->exit_reason == KVM_EXIT_MMIO)
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (run->exit_reason == KVM_EXIT_SHUTDOWN || run->exit_reason == KVM_EXIT_INTERNAL_ERROR ||
	    run->exit_reason == KVM_EXIT_FAIL_ENTRY ||
	    (run->exit_reason == KVM_EXIT_IO && run->io.port == GIVE_UP_PORT) ||
	    ++self->lost_exits > MAX_LOST_EXITS)
		rescue(self);
}

/* Returns false if the thread is to end. */
static bool handle_error(struct fuzz_vcpu *self)
{
	if (errno != EINTR) {
		rescue(self);
		return true;
	}

	WRITE_ONCE(own_run->immediate_exit, 0);
	if (self->calm)
		wake_up(self);
	if (__atomic_exchange_n(&self->stop, false, __ATOMIC_SEQ_CST)) {
		sem_post(&self->stopped);
		while (sem_wait(&self->go))
			;
	}

	return !self->end;
}

static void *run_vcpu(void *arg)
{
	struct fuzz_vcpu *self = arg;

	/* The guests would have the processors, and the tool wait for them. */
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 5);
	own_run = self->vcpu->run;
	cover_enable(&self->cover);
	for (;;) {
		if (!__vcpu_run(self->vcpu))
			handle_exit(self);
		else if (!handle_error(self))
			break;
	}
	cover_disable(&self->cover);

	return NULL;
}

static void fuzz_vm_signal(u16 vcpu)
{
	pthread_kill(fuzz_vm.vcpus[vcpu % FUZZ_RUNNING].thread, SIGUSR1);
}

/* Let the guest go through another round. */
static void fuzz_vm_wake(u16 vcpu)
{
	eventfd_t rounds;

	eventfd_read(fuzz_vm.vcpus[vcpu].round_fd, &rounds);
	if (READ_ONCE(fuzz_vm.vcpus[vcpu].calm))
		fuzz_vm_signal(vcpu);
}

/* All vCPUs are out of KVM_RUN after this; a signal must be enough. */
static void fuzz_vm_stop(void)
{
	struct fuzz_vcpu *vcpu;
	struct timespec ts;
	int i;

	for (i = 0; i < FUZZ_RUNNING; i++) {
		__atomic_store_n(&fuzz_vm.vcpus[i].stop, true, __ATOMIC_SEQ_CST);
		fuzz_vm_signal(i);
	}
	for (i = 0; i < FUZZ_RUNNING; i++) {
		vcpu = &fuzz_vm.vcpus[i];
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec += KVMI_TIMEOUT_MS / 1000;
		FUZZ_ASSERT(!sem_timedwait(&vcpu->stopped, &ts),
			    "A signal does not take vCPU %d out of KVM_RUN", i);
	}
}

static void fuzz_vm_go(void)
{
	int i;

	for (i = 0; i < FUZZ_RUNNING; i++)
		sem_post(&fuzz_vm.vcpus[i].go);
}

/*
 * Everything as it was at first: then the guest must run. That takes time, if the tool may
 * have changed all of the memory.
 */
static void fuzz_vm_restart(bool all)
{
	static u64 resets;
	u64 before[FUZZ_RUNNING];
	struct fuzz_vcpu *vcpu;
	struct pollfd pfd;
	eventfd_t rounds;
	int i;

	fuzz_vm_stop();
	restore_memory(all || fuzz_vm.resets != resets);
	for (i = 0; i < FUZZ_RUNNING; i++) {
		vcpu = &fuzz_vm.vcpus[i];
		vcpu_load_state(vcpu->vcpu, vcpu->state);
		before[i] = vcpu->progress;
		vcpu->resets = 0;
	}
	resets = fuzz_vm.resets;
	fuzz_vm_go();
	for (i = 0; i < FUZZ_RUNNING; i++) {
		vcpu = &fuzz_vm.vcpus[i];
		pfd = (struct pollfd){ .fd = vcpu->round_fd, .events = POLLIN };
		while (READ_ONCE(vcpu->progress) == before[i]) {
			FUZZ_ASSERT(poll(&pfd, 1, KVMI_TIMEOUT_MS) > 0,
				    "vCPU %d does not go on after UNHOOK", i);
			eventfd_read(vcpu->round_fd, &rounds);
		}
	}
}

static void fuzz_vm_create(struct model *model)
{
	struct kvm_vcpu *vcpus[FUZZ_VCPUS];
	struct kvm_mp_state init = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct userspace_mem_region *region;
	struct fuzz_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	vm = vm_create_with_vcpus(FUZZ_VCPUS, guest_main, vcpus);
	vcpu_mp_state_set(vcpus[FUZZ_RUNNING], &init);
	for (i = 0; i < 32; i++)
		vm_install_exception_handler(vm, i, guest_handler);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, FUZZ_GPA, FUZZ_SLOT, FUZZ_PAGES, 0);
	virt_map(vm, FUZZ_GPA, FUZZ_GPA, FUZZ_PAGES);
	fuzz_vm.vm = vm;
	fuzz_vm.pages = addr_gpa2hva(vm, FUZZ_GPA);
	for (i = 0; i < FUZZ_PAGES; i++)
		kvmi_page_fill(fuzz_vm.pages + i * PAGE_SIZE);
	fuzz_vm.pages_copy = malloc(FUZZ_PAGES * PAGE_SIZE);
	memcpy(fuzz_vm.pages_copy, fuzz_vm.pages, FUZZ_PAGES * PAGE_SIZE);

	region = memslot2region(vm, 0);
	fuzz_vm.memory = region->host_mem;
	fuzz_vm.size = region->region.memory_size;
	fuzz_vm.copy = malloc(fuzz_vm.size);
	memcpy(fuzz_vm.copy, fuzz_vm.memory, fuzz_vm.size);
	model->main_gfns = fuzz_vm.size >> PAGE_SHIFT;
	model->max_gfn = (FUZZ_GPA >> PAGE_SHIFT) + FUZZ_PAGES;

	for (i = 0; i < FUZZ_RUNNING; i++) {
		vcpu = &fuzz_vm.vcpus[i];
		memset(vcpu, 0, sizeof(*vcpu));
		vcpu->vcpu = vcpus[i];
		vcpu->state = vcpu_save_state(vcpus[i]);
		sem_init(&vcpu->stopped, 0, 0);
		sem_init(&vcpu->go, 0, 0);
		vcpu->round_fd = eventfd(0, EFD_NONBLOCK);
		TEST_ASSERT(vcpu->round_fd >= 0, "eventfd");
		cover_open(&vcpu->cover);
		TEST_ASSERT(!pthread_create(&vcpu->thread, NULL, run_vcpu, vcpu), "pthread_create");
	}
}

static void fuzz_vm_destroy(void)
{
	int i;

	fuzz_vm_stop();
	for (i = 0; i < FUZZ_RUNNING; i++) {
		fuzz_vm.vcpus[i].end = true;
		sem_post(&fuzz_vm.vcpus[i].go);
		pthread_join(fuzz_vm.vcpus[i].thread, NULL);
		kvm_x86_state_cleanup(fuzz_vm.vcpus[i].state);
		cover_close(&fuzz_vm.vcpus[i].cover);
		close(fuzz_vm.vcpus[i].round_fd);
	}
	kvm_vm_free(fuzz_vm.vm);
	free(fuzz_vm.copy);
	free(fuzz_vm.pages_copy);
}

#endif
