// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the other ways to a restricted page: the guest's page tables,
 * the delivery of events, guests of the guest; and what may come in between: a
 * signal, the other vCPU, the end of introspection.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "svm_util.h"
#include "test_util.h"
#include "vmx.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RWX	(R | W | X)

#define PTE_ACCESSED	BIT_ULL(5)
#define PTE_DIRTY	BIT_ULL(6)

#define VALUE		0x1122334455667788ull

KVMI_TEST_SUITE(kvmi_page_paths, 2);

static u64 guest_copy(u64 to, u64 from)
{
	u64 count = 1;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return count;
}

static u64 guest_emulated_write(u64 gva, u64 val)
{
	asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(gva), "r"(val) : "memory");
	return val;
}

static u64 guest_flush(u64 unused, u64 unused2)
{
	set_cr3(get_cr3());
	return 0;
}

static u64 guest_ud2(u64 unused, u64 unused2)
{
	return kvmi_guest_try("ud2");
}

/* On another stack, where the processor leaves the frame of the exception. */
static u64 guest_ud2_on(u64 stack, u64 unused)
{
	u64 error_code;
	u8 vector;

	asm volatile("mov %%rsp, %%r12\n\t"
		     "mov %[stack], %%rsp\n\t"
		     KVM_ASM_SAFE("ud2")
		     "mov %%r12, %%rsp\n\t"
		     : [vector] "=&q"(vector), [error_code] "=&r"(error_code)
		     : [stack] "r"(stack)
		     : KVM_ASM_SAFE_CLOBBERS, "r12", "memory");
	return vector;
}

static void restrict_gpa(struct kvmi_tool *tool, gpa_t gpa, u8 access)
{
	TEST_ASSERT_EQ(kvmi_set_page_access(tool, gpa & PAGE_MASK, access), 0);
}

static void expect_pf(struct kvmi_tool *tool, u16 vcpu, gpa_t gpa, u8 access,
		      struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_pf *payload = (void *)ev->payload;

	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_PF, ev);
	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->gpa & PAGE_MASK, gpa & PAGE_MASK);
	TEST_ASSERT_EQ(payload->access, access);
}

/* Let all accesses through until the guest is done; returns how many there were. */
static int pass_all(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, gpa_t gpa, u8 access)
{
	struct kvmi_ev ev;
	int nr = 0;

	while (!kvmi_call_is_done(vcpu)) {
		if (!kvmi_readable(tool, 1))
			continue;
		expect_pf(tool, vcpu->id, gpa, access, &ev);
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		nr++;
	}
	kvmi_expect_quiet(tool);

	return nr;
}

static gpa_t gpa_of(struct kvm_vm *vm, void *hva)
{
	return addr_hva2gpa(vm, (void *)((unsigned long)hva & PAGE_MASK)) |
	       ((unsigned long)hva & ~PAGE_MASK);
}

/*
 * A page table of the guest that must not be written: the processor sets its
 * bits in it, and nobody notices; software does not.
 */
TEST_F(kvmi_page_paths, page_table)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	gpa_t gpa, table;
	struct kvmi_ev ev;
	gva_t gva, alias;
	u64 *pte, *value;

	if (!kvm_is_tdp_enabled())
		SKIP(return, "KVM shadows page tables, the processor sees none of the guest");

	gva = kvmi_map_far(self->vm, &gpa);
	value = addr_gpa2hva(self->vm, gpa);
	*value = VALUE;
	pte = vm_get_pte(self->vm, gva);
	table = gpa_of(self->vm, pte);
	alias = gva + getpagesize();
	virt_pg_map(self->vm, alias + getpagesize(), table & PAGE_MASK);
	alias += getpagesize();
	*pte &= ~(PTE_ACCESSED | PTE_DIRTY);

	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	restrict_gpa(self->tool, table, R);

	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, gva, 0), VALUE);
	TEST_ASSERT_EQ(*pte & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, gva, 1), 1);
	TEST_ASSERT_EQ(*pte & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED | PTE_DIRTY);
	TEST_ASSERT_EQ(*value, 1);

	/* The bits are set already. */
	kvmi_call(vcpu, guest_flush, 0, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, gva, 0), 1);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_strange_store, gva, 2), 2);
	TEST_ASSERT_EQ(*value, 2);
	*pte &= ~(PTE_ACCESSED | PTE_DIRTY);
	kvmi_call(vcpu, guest_flush, 0, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_strange_store, gva, 3), 3);
	TEST_ASSERT_EQ(*value, 3);
	TEST_ASSERT_EQ(*pte & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED | PTE_DIRTY);
	kvmi_expect_quiet(self->tool);

	/* Software: through a translation that uses the same table. */
	kvmi_call_begin(vcpu, kvmi_guest_store, alias + (table & ~PAGE_MASK), *pte ^ PTE_DIRTY);
	expect_pf(self->tool, 0, table, W, &ev);
	TEST_ASSERT_EQ(((struct kvmi_vcpu_event_pf *)ev.payload)->gpa, table);
	TEST_ASSERT(*pte & PTE_DIRTY, "Written before the reply");
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_call_end(vcpu);
	TEST_ASSERT(!(*pte & PTE_DIRTY), "Not written");
	kvmi_expect_quiet(self->tool);

	/* It must not even be read. */
	restrict_gpa(self->tool, table, 0);
	kvmi_call_begin(vcpu, kvmi_guest_load, gva, 0);
	expect_pf(self->tool, 0, table, R, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 3);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* All translations need this one, those of the code as well. */
TEST_F(kvmi_page_paths, root_page_table)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	gpa_t gpa;
	u64 *value;
	gva_t gva;
	int i;

	gva = kvmi_map_far(self->vm, &gpa);
	value = addr_gpa2hva(self->vm, gpa);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	restrict_gpa(self->tool, self->vm->mmu.pgd, R);
	for (i = 1; i < 4; i++) {
		TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, gva, i), i);
		TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, gva, 0), i);
		TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_strange_store, gva, i + 100), i + 100);
		TEST_ASSERT_EQ(*value, i + 100);
	}
	kvmi_expect_quiet(self->tool);
	restrict_gpa(self->tool, self->vm->mmu.pgd, RWX);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, gva, 0), 103);
	kvmi_stop(&runner);
}

/* The processor reads the IDT and writes the stack, to deliver an exception. */
TEST_F(kvmi_page_paths, delivery)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	gpa_t idt = addr_gva2gpa(self->vm, self->vm->arch.idt), gpa;
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	gva_t stack;
	int i, nr;

	stack = vm_alloc_page(self->vm);
	gpa = addr_gva2gpa(self->vm, stack);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_ud2, 0, 0), UD_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_ud2_on, stack + getpagesize(), 0), UD_VECTOR);

	restrict_gpa(self->tool, idt, 0);
	for (i = 0; i < 3; i++) {
		kvmi_call_begin(vcpu, guest_ud2, 0, 0);
		expect_pf(self->tool, 0, idt, R, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
		expect_pf(self->tool, 0, idt, R, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		nr = pass_all(self->tool, vcpu, idt, R);
		TEST_ASSERT(nr <= 1, "%d more events", nr);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), UD_VECTOR);
	}
	restrict_gpa(self->tool, idt, RWX);

	restrict_gpa(self->tool, gpa, R);
	for (i = 0; i < 3; i++) {
		kvmi_call_begin(vcpu, guest_ud2_on, stack + getpagesize(), 0);
		nr = pass_all(self->tool, vcpu, gpa, W);
		/* The handler saves the registers there as well. */
		TEST_ASSERT(nr >= 16, "%d events", nr);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), UD_VECTOR);
	}

	/* Nobody looks. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_PF, 0), 0);
	restrict_gpa(self->tool, idt, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_ud2_on, stack + getpagesize(), 0), UD_VECTOR);
	kvmi_stop(&runner);
}

static u64 guest_nmis;

static void guest_nmi_handler(struct ex_regs *regs)
{
	WRITE_ONCE(guest_nmis, guest_nmis + 1);
}

static u64 guest_count_nmis(u64 unused, u64 unused2)
{
	return READ_ONCE(guest_nmis);
}

/* The same for what comes from outside. */
TEST_F(kvmi_page_paths, nmi)
{
	gpa_t idt = addr_gva2gpa(self->vm, self->vm->arch.idt);
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	vm_install_exception_handler(self->vm, NMI_VECTOR, guest_nmi_handler);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	restrict_gpa(self->tool, idt, 0);
	for (i = 1; i < 4; i++) {
		kvmi_stop(&runner);
		vcpu_ioctl(vcpu, KVM_NMI, NULL);
		kvmi_start(&runner, vcpu);
		expect_pf(self->tool, 0, idt, R, &ev);
		kvmi_interrupt(&runner);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_call_begin(vcpu, guest_count_nmis, 0, 0);
		pass_all(self->tool, vcpu, idt, R);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), i);
	}
	kvmi_stop(&runner);
}

/* KVM_RUN is left while the tool owes a reply: no other event, nothing is lost. */
TEST_F(kvmi_page_paths, signals)
{
	static const struct {
		kvmi_guest_fn fn;
		int events;
	} accesses[] = {
		{ kvmi_guest_store, 1 },
		{ kvmi_guest_strange_store, 1 },
		{ guest_emulated_write, 1 },
		{ guest_copy, 2 },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	gva_t to, from;
	u64 *value;
	int i, j;
	u64 arg;

	to = vm_alloc_page(self->vm);
	from = vm_alloc_page(self->vm);
	value = addr_gva2hva(self->vm, to);
	*(u64 *)addr_gva2hva(self->vm, from) = VALUE;
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	restrict_gpa(self->tool, addr_gva2gpa(self->vm, to), 0);
	restrict_gpa(self->tool, addr_gva2gpa(self->vm, from), 0);

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		/* The prefix is behind it then; SVM does not tell the address. */
		if (accesses[i].fn == guest_emulated_write &&
		    (host_cpu_is_amd || !is_forced_emulation_enabled))
			continue;
		*value = 0;
		arg = accesses[i].fn == guest_copy ? from : VALUE;
		kvmi_call_begin(vcpu, accesses[i].fn, to, arg);
		for (j = 0; j < accesses[i].events; j++) {
			kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PF, &ev);
			kvmi_interrupt(&runner);
			kvmi_interrupt(&runner);
			TEST_ASSERT_EQ(*value, 0);
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		kvmi_call_end(vcpu);
		TEST_ASSERT_EQ(*value, VALUE);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

#define INTRUDER	0x5ec4e7

/* Write without pause; the tool has the last word on each. */
static u64 guest_intrude(u64 gva, u64 rounds)
{
	while (rounds--)
		WRITE_ONCE(*(u64 *)gva, INTRUDER);
	return 0;
}

static u64 guest_strange_writes(u64 gva, u64 rounds)
{
	u64 i;

	for (i = 1; i <= rounds; i++)
		kvmi_guest_strange_store(gva, i);
	return i;
}

/* What is open for one vCPU is not for the other. */
TEST_F(kvmi_page_paths, exclusive)
{
	const int rounds = host_cpu_is_amd ? 300 : 60;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner[2];
	u64 *value;
	struct kvmi_ev ev;
	gva_t gva;
	int nr = 0;

	gva = vm_alloc_page(self->vm);
	value = addr_gva2hva(self->vm, gva);
	kvmi_start_agent(&runner[0], vcpu);
	kvmi_start_agent(&runner[1], self->vcpu[1]);
	kvmi_enable_pf(self->tool, 1);
	restrict_gpa(self->tool, addr_gva2gpa(self->vm, gva), R);

	kvmi_call_begin(self->vcpu[1], guest_intrude, gva + 8, 1);
	kvmi_call_begin(vcpu, guest_strange_writes, gva, rounds);
	while (!kvmi_call_is_done(vcpu)) {
		TEST_ASSERT_EQ(READ_ONCE(value[1]), 0);
		if (!kvmi_readable(self->tool, 0))
			continue;
		expect_pf(self->tool, 1, addr_gva2gpa(self->vm, gva), W, &ev);
		TEST_ASSERT_EQ(READ_ONCE(value[1]), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
		nr++;
	}
	kvmi_call_end(vcpu);
	TEST_ASSERT_EQ(value[0], rounds);
	TEST_ASSERT_EQ(READ_ONCE(value[1]), 0);
	TEST_ASSERT(nr, "The other vCPU did not try");
	pr_info("# %d attempts during %d openings\n", nr, rounds);

	expect_pf(self->tool, 1, addr_gva2gpa(self->vm, gva), W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_call_end(self->vcpu[1]);
	TEST_ASSERT_EQ(value[1], INTRUDER);
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* Both vCPUs are anywhere in this when the tool goes. */
TEST_F(kvmi_page_paths, death)
{
	const int rounds = host_cpu_is_amd ? 40 : 10;
	struct kvmi_runner runner[2];
	struct kvmi_ev ev;
	gva_t gva[2];
	int i, j;

	for (i = 0; i < 2; i++) {
		gva[i] = vm_alloc_page(self->vm);
		kvmi_start_agent(&runner[i], self->vcpu[i]);
	}

	for (i = 0; i < rounds; i++) {
		for (j = 0; j < 2; j++) {
			restrict_gpa(self->tool, addr_gva2gpa(self->vm, gva[j]), i & 1 ? R : 0);
			if (i & 2)
				kvmi_enable_pf(self->tool, j);
		}
		kvmi_call_begin(self->vcpu[0], guest_strange_writes, gva[0], 20);
		kvmi_call_begin(self->vcpu[1], guest_strange_writes, gva[1], 20);
		for (j = 0; j < i; j++) {
			if (!kvmi_readable(self->tool, 1))
				continue;
			TEST_ASSERT(kvmi_next_event(self->tool, &ev), "No event");
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		if (i & 4)
			kvmi_unhook(self->vm);
		self->tool = kvmi_rehook(self->tool);
		for (j = 0; j < 2; j++) {
			kvmi_call_end(self->vcpu[j]);
			TEST_ASSERT_EQ(*(u64 *)addr_gva2hva(self->vm, gva[j]), 20);
		}
	}
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

#define FIFO_PORT	0x5a0
#define FIFO_BYTES	100

static void guest_read_fifo(u64 gva)
{
	u64 count = FIFO_BYTES;

	asm volatile("rep insb" : "+D"(gva), "+c"(count) : "d"((u16)FIFO_PORT) : "memory");
	GUEST_DONE();
}

static void *pass_in_thread(void *arg)
{
	struct kvmi_tool *tool = arg;
	struct kvmi_ev ev;
	long nr = 0;

	kvmi_enable_pf(tool, 0);
	/* Until introspection ends. */
	while (kvmi_next_event(tool, &ev)) {
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		nr++;
	}

	return (void *)nr;
}

/* What a device gives is given once. */
TEST_F(kvmi_page_paths, device)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvm_run *run = vcpu->run;
	gva_t gva = vm_alloc_pages(self->vm, 2) + getpagesize() - FIFO_BYTES / 2;
	u8 *bytes = addr_gva2hva(self->vm, gva), next = 0;
	pthread_t thread;
	void *nr;
	int i;

	vcpu_arch_set_entry_point(vcpu, guest_read_fifo);
	vcpu_args_set(vcpu, 1, gva);
	for (i = 0; i < 2; i++)
		restrict_gpa(self->tool, addr_gva2gpa(self->vm, gva + i * FIFO_BYTES / 2), R);
	pthread_create(&thread, NULL, pass_in_thread, self->tool);
	/* The command is to be there before the vCPU runs. */
	usleep(200000);

	for (;;) {
		vcpu_run(vcpu);
		if (get_ucall(vcpu, NULL) == UCALL_DONE)
			break;
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT_EQ(run->io.port, FIFO_PORT);
		for (i = 0; i < run->io.count; i++)
			((u8 *)run)[run->io.data_offset + i] = ++next;
	}

	TEST_ASSERT_EQ(next, FIFO_BYTES);
	for (i = 0; i < FIFO_BYTES; i++)
		TEST_ASSERT_EQ(bytes[i], i + 1);
	kvmi_unhook(self->vm);
	pthread_join(thread, &nr);
	TEST_ASSERT((long)nr >= 2, "%ld events", (long)nr);
}

#define MMIO_GPA	0xd0000000ull

static void guest_copy_from_device(u64 to, u64 from)
{
	guest_copy(to, from);
	GUEST_DONE();
}

/* A VMM that only wants to complete what the vCPU has begun does not wait. */
TEST_F(kvmi_page_paths, immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvm_run *run = vcpu->run;
	gva_t gva = vm_alloc_page(self->vm);
	u64 *value = addr_gva2hva(self->vm, gva);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	virt_pg_map(self->vm, MMIO_GPA, MMIO_GPA);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_stop(&runner);
	restrict_gpa(self->tool, gpa, R);

	vcpu_arch_set_entry_point(vcpu, guest_copy_from_device);
	vcpu_args_set(vcpu, 2, gva, MMIO_GPA);
	for (i = 0;; i++) {
		vcpu_run(vcpu);
		if (get_ucall(vcpu, NULL) == UCALL_DONE)
			break;
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT_EQ(run->mmio.phys_addr, MMIO_GPA);
		TEST_ASSERT_EQ(run->mmio.len, 8);
		memcpy(run->mmio.data, &(u64){ VALUE }, 8);
		if (i)
			continue;

		vcpu->run->immediate_exit = 1;
		TEST_ASSERT_EQ(__vcpu_run(vcpu), -1);
		TEST_ASSERT_EQ(errno, EINTR);
		vcpu->run->immediate_exit = 0;
		expect_pf(self->tool, 0, gpa, W, &ev);
		TEST_ASSERT_EQ(*value, 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT(i, "The device was not read");
	TEST_ASSERT_EQ(*value, VALUE);
	kvmi_expect_quiet(self->tool);
}

/* For L2: what it writes to, and how. */
static u64 l2_gva;
static kvmi_guest_fn l2_fn;

static void l2_code(void)
{
	l2_fn(l2_gva, VALUE);
	kvmi_guest_hypercall();
}

static void l1_svm(struct svm_test_data *svm)
{
	generic_svm_setup(svm, l2_code);
	svm->vmcb->save.rsp = (u64)svm->stack;
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_ASSERT_EQ(svm->vmcb->control.exit_code, SVM_EXIT_VMMCALL);
	GUEST_DONE();
}

static void l1_vmx(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_code);
	GUEST_ASSERT(!vmwrite(GUEST_RSP, (u64)vmx->stack));
	GUEST_ASSERT_EQ(vmlaunch(), 0);
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
	GUEST_DONE();
}

static void l1_code(void *nested)
{
	if (this_cpu_has(X86_FEATURE_SVM))
		l1_svm(nested);
	else
		l1_vmx(nested);
}

/* The pages are L1's, whoever uses them. */
static void check_l2(kvmi_guest_fn fn, bool tdp)
{
	struct kvmi_runner runner;
	struct kvmi_tool *tool;
	struct kvm_vcpu *vcpu;
	struct kvmi_ev ev;
	struct kvm_vm *vm;
	gva_t gva, nested;
	u64 *value;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	if (tdp)
		vm_enable_tdp(vm);
	gva = vm_alloc_page(vm);
	value = addr_gva2hva(vm, gva);
	*(u64 *)addr_gva2hva(vm, (gva_t)&l2_gva) = gva;
	*(kvmi_guest_fn *)addr_gva2hva(vm, (gva_t)&l2_fn) = fn;
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(vm, &nested);
	else
		vcpu_alloc_vmx(vm, &nested);
	if (tdp)
		tdp_identity_map_default_memslots(vm);
	vcpu_args_set(vcpu, 1, nested);

	tool = kvmi_hook(vm);
	TEST_ASSERT_EQ(kvmi_set_page_access(tool, addr_gva2gpa(vm, gva), R), 0);
	kvmi_enable_and_start(tool, &runner, vcpu, KVMI_VCPU_EVENT_PF);
	expect_pf(tool, 0, addr_gva2gpa(vm, gva), W, &ev);
	TEST_ASSERT_EQ(*value, 0);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_RETRY);
	expect_pf(tool, 0, addr_gva2gpa(vm, gva), W, &ev);
	kvmi_interrupt(&runner);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_done(&runner);
	TEST_ASSERT_EQ(*value, VALUE);
	kvmi_expect_quiet(tool);
	kvmi_free(tool);
	kvm_vm_free(vm);
}

TEST_F(kvmi_page_paths, nested)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "KVM gives no nested virtualization on this host");

	check_l2(kvmi_guest_store, false);
	check_l2(kvmi_guest_strange_store, false);
}

TEST_F(kvmi_page_paths, nested_paging)
{
	if (!kvm_cpu_has_tdp())
		SKIP(return, "KVM gives no nested paging on this host");

	check_l2(kvmi_guest_store, true);
	check_l2(kvmi_guest_strange_store, true);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
