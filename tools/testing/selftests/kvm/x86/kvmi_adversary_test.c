// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: random programs in all modes of the processor, and a tool that
 * answers at random. If it lets everything happen, the guest must end as it does
 * without a tool; if it does not, nothing may happen to a page that it guards.
 *
 * KVMI_ADVERSARY_SEED and KVMI_ADVERSARY_ROUNDS in the environment choose the programs;
 * without them they are always the same.
 * Round N of seed S is round 0 of seed S + N.
 */
#include <stddef.h>

#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "smm.h"
#include "test_util.h"

#define DEFAULT_SEED	1
#define DEFAULT_ROUNDS	60

/* The memory of the guest; the virtual addresses are the same. */
#define IVT_GPA		0x0000
#define IDT_GPA		0x1000
#define GDT_GPA		0x2000
#define TSS_GPA		0x2800
#define TSS2_GPA	0x2900
#define ROOT_GPA	0x3000	/* the root of the page tables, of 2 or 4 MiB pages */
#define PDPT_GPA	0x4000
#define PD_GPA		0x5000
#define ROOT2_GPA	0x6000	/* the same as ROOT_GPA */
#define HANDLER_GPA	0x7000
#define DATA_GPA	0x8000
#define TABLES_GPA	0x8e00	/* operands of LIDT and LGDT */
#define LOG_GPA		0x8f00	/* of the exception handlers */
#define FXSAVE_GPA	0x9f00
#define STACK_GPA	0xa000
#define USER_STACK_GPA	0xb000
#define CODE_GPA	0xc000
#define MEM_PAGES	15
#define END_GPA		0xf000	/* no memory: a write to it is the end */
#define MEM_SIZE	(MEM_PAGES * 4096)

/* System management mode begins at CODE_GPA; the state that it saves is elsewhere. */
#define SMBASE		(CODE_GPA - 0x8000)
#define SMM_RIP		0x8000
#define SMM_SAVE_GPA	(SMBASE + 0xf000)
#define SMM_PREFIX	16	/* bytes at CODE_GPA, before the program */

/* Memory slots of the address space that this mode has. */
#define SMM_SLOT	BIT(16)
#define SMM_SAVE_SLOT	(SMM_SLOT | BIT(0))

#define SEL_KERNEL_CS64	0x08
#define SEL_KERNEL_DS	0x10
#define SEL_USER_CS32	0x1b
#define SEL_USER_DS	0x23
#define SEL_USER_CS64	0x2b
#define SEL_KERNEL_CS32	0x30
#define SEL_KERNEL_CS16	0x38
#define SEL_USER_CS16	0x43
#define SEL_TSS		0x48
#define SEL_TSS2	0x58
#define SEL_LDT		0x68

#define RFLAGS_IOPL_3	(3ul << 12)

#define PTE_PRESENT	0x01
#define PTE_BITS	0x67	/* and writable, for users, accessed, dirty */
#define PTE_ACCESSED	0x20
#define PTE_LARGE	0x80

/*
 * Instructions that are the same source in 16-bit, 32-bit and 64-bit code. Each is
 * preceded by its length, and may follow loads of random values into eax, ebx, ecx, edx.
 */
#define I(text)		".byte 2f - 1f\n1: " text "\n2:\n"
#define MOV_FROM_CR0	".byte 0x0f, 0x20, 0xc0\n"
#define MOV_TO_CR0	".byte 0x0f, 0x22, 0xc0\n"
#define MOV_FROM_CR4	".byte 0x0f, 0x20, 0xe0\n"
#define MOV_TO_CR4	".byte 0x0f, 0x22, 0xe0\n"
#define MOV_TO_CR3	".byte 0x0f, 0x22, 0xd8\n"
#define PUSHF		".byte 0x9c\n"
#define POPF		".byte 0x9d\n"
#define PUSH_A		".byte 0x50\n"
#define POP_A		".byte 0x58\n"
#define HYPERCALL_ARGS(nr) "mov $34, %eax\n mov $" nr ", %ebx\n mov %ebx, %edi\n"	\
			"xor %ecx, %ecx\n xor %esi, %esi\n"
#define VMCALL		".byte 0x0f, 0x01, 0xc1\n"
#define VMMCALL		".byte 0x0f, 0x01, 0xd9\n"

asm(".macro instructions\n"
	I(MOV_FROM_CR0 "xor %edx, %eax\n" MOV_TO_CR0)
	I(MOV_FROM_CR0 "xor $0x10028, %eax\n" MOV_TO_CR0)
	I(MOV_FROM_CR0 "btc $31, %eax\n" MOV_TO_CR0)
	I(MOV_FROM_CR4 "xor %edx, %eax\n" MOV_TO_CR4)
	I(MOV_FROM_CR4 "xor $0x484, %eax\n" MOV_TO_CR4)
	I("mov $0x6000, %eax\n" MOV_TO_CR3)
	I("mov $0x3018, %eax\n" MOV_TO_CR3)
	I("smsw %ax\n xor $8, %al\n lmsw %ax")
	I("smsw 0x8fff")
	I("lmsw 0x8fff")
	I("clts")
	I("sgdt 0x8ffc")
	I("sidt 0x8100")
	I("sldt 0x8fff")
	I("str %eax")
	I("lgdt 0x8e10")
	I("lidt 0x8e00")
	I("lidt 0x8e20")
	I("mov $0x68, %eax\n lldt %ax")
	I("mov $0x58, %eax\n ltr %ax")
	I("rdmsr\n xor %ebx, %eax\n wrmsr")
	I("wrmsr")
	I("xor %ecx, %ecx\n xgetbv\n xor %ebx, %eax\n xsetbv")
	I("xor %ecx, %ecx\n xor %edx, %edx\n mov $3, %eax\n xsetbv")
	I("cpuid")
	I("int3")
	I(".byte 0xf1")
	I("int $0x80")
	I("int $0x81")
	I("int $0x82")
	I(HYPERCALL_ARGS("24") VMMCALL "xor %eax, %eax\n")
	I(HYPERCALL_ARGS("24") VMCALL "xor %eax, %eax\n")
	I(HYPERCALL_ARGS("23") VMMCALL)
	I(PUSHF POP_A)
	I(PUSHF POP_A "xor $0x100, %eax\n" PUSH_A POPF)
	I(PUSHF POP_A "xor %edx, %eax\n" PUSH_A POPF)
	I("sti\n" PUSHF POP_A)
	I("sti")
	I("cli")
	I("mov %ss, %eax\n mov %eax, %ss")
	I("mov %ss, %eax\n mov %eax, %ss\n" PUSHF POP_A)
	I("mov %ss, %eax\n mov %eax, %ss\n int $0x80")
	I("mov $0x8ff9, %esi\n mov $0x8ff6, %edi\n mov $13, %ecx\n rep movsb")
	I("mov $0x8ff9, %esi\n mov $0x9ff6, %edi\n mov $3, %ecx\n rep movsl")
	I("mov $0x8ff6, %edi\n mov $3, %ecx\n rep stosl")
	I("mov $0x8ff9, %esi\n lodsl")
	I("mov %eax, 0x8ffe")
	I("mov 0x8ffe, %edx")
	I("add %edx, 0x8ffd")
	I("xchg %edx, 0x8fff")
	I("lock cmpxchg %ecx, 0x8ffe")
	I("movups 0x8ff5, %xmm0")
	I("movups %xmm0, 0x8ff5")
	I("movups %xmm0, 0x9ff5")
	I("pextrd $1, %xmm0, 0x8ffd")
	I("btr %edx, 0x8ffc")
	I("fxsave 0x9f00")
	I("sidt 0x9ffc")
	I(PUSH_A POP_A)
	I("call 3f\n 3: " POP_A)
	I(".byte 0x0f, 0x05")
	I("sysenter")
	I(".byte 0x0f, 0x21, 0xf0")
	I("invlpg 0x8000")
	I("hlt")
	I("nop")
	I("ud2")
	".endm\n");

/* A handler that adds where it comes from, and with which flags, to its log. */
asm(".macro hash offset\n"
	"roll $3, 0x8f00+\\offset\n"
	"add %eax, 0x8f00+\\offset\n"
	".endm\n"
	".macro logging sp, bp, a, load, slot\n"
	"push %\\bp\n"
	"mov %\\sp, %\\bp\n"
	"push %\\a\n"
	"\\load \\slot(%\\bp), %eax\n"
	"hash 4\n"
	"movzwl 3*\\slot(%\\bp), %eax\n"
	"hash 8\n"
	"incl 0x8f00\n"
	"pop %\\a\n"
	"pop %\\bp\n"
	".endm\n"
	".macro change sp, bp, insn, addr\n"
	"push %\\bp\n"
	"mov %\\sp, %\\bp\n"
	"\\insn, \\addr(%\\bp)\n"
	"pop %\\bp\n"
	".endm\n");

/*
 * In three sizes: the end of a program, whose rip tells which one; handlers that log, and
 * that change the TF or the RF that is returned to.
 */
asm(".macro handlers bits, sp, bp, a, load, slot, iret\n"
	".balign 8\n"
	"faults\\bits:\n"
	".rept 33\n"
	".balign 8\n"
	"movb %al, 0xf000\n"
	".endr\n"
	"log\\bits: logging \\sp, \\bp, \\a, \\load, \\slot\n"
	"\\iret\n"
	"tf\\bits: logging \\sp, \\bp, \\a, \\load, \\slot\n"
	"change \\sp, \\bp, \"xorw $0x100\", 3*\\slot\n"
	"\\iret\n"
	"rf\\bits: logging \\sp, \\bp, \\a, \\load, \\slot\n"
	"change \\sp, \\bp, \"orb $1\", 3*\\slot+2\n"
	"\\iret\n"
	".endm\n");

asm(".pushsection .rodata\n"
	".code16\n insns16: instructions\n"
	".code32\n insns32: instructions\n"
	".code64\n insns64: instructions\n"
	".balign 64\n handlers:\n"
	".code16\n handlers 16, sp, bp, eax, movzwl, 2, iretw\n"
	".code32\n handlers 32, esp, ebp, eax, mov, 4, iretl\n"
	".code64\n handlers 64, rsp, rbp, rax, mov, 8, iretq\n"
	"sysret_legacy:\n sysret_compat: .byte 0x0f, 0x07\n"
	"sysret_long: .byte 0x48, 0x0f, 0x07\n"
	"handlers_end:\n"
	".popsection\n");

/* How a program is run. */
struct mode {
	const char *name;
	u8 bits;		/* of the code */
	u8 handler_bits;	/* of the code of the handlers */
	u64 cr0;
	u64 cr4;
	u64 efer;
	u32 cs_base;
};

#define PROTECTED_MODE	2
#define LONG_MODE	6

static const struct mode modes[] = {
	{ "real", 16, 16 },
	{ "protected-16", 16, 16, X86_CR0_PE },
	{ "protected-32", 32, 32, X86_CR0_PE },
	{ "paging-32", 32, 32, X86_CR0_PE | X86_CR0_PG, X86_CR4_PSE },
	{ "pae-32", 32, 32, X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE },
	{ "compat-32", 32, 64, X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, EFER_LME | EFER_LMA },
	{ "long-64", 64, 64, X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, EFER_LME | EFER_LMA },
};

/* Entered from real mode, by an SMI before the first instruction. */
static const struct mode smm_mode = { "smm", 16, 16, .cs_base = SMBASE };

/* Machine code of instructions that are treated in a special way. */
#define HLT		"\xf4"
#define VMCALL_CODE	"\x0f\x01\xc1"
#define VMMCALL_CODE	"\x0f\x01\xd9"
#define INT_CODE	"\xcd"
#define INT3_CODE	"\xcc"
#define CMPXCHG_CODE	"\x0f\xb1"
#define XCHG_CODE	"\x87"
#define POPF_CODE	"\x9d"
#define SYSCALL_CODE	"\x0f\x05"
#define SYSENTER_CODE	"\x0f\x34"
#define LTR_CODE	"\x0f\x00\xd8"
#define MOV_TO_CR_CODE	"\x0f\x22"
#define RSM_CODE	"\x0f\xaa"

#define MAX_CODE	512
#define MAX_INSNS	12

struct program {
	const struct mode *mode;
	bool user;
	bool restricted;	/* some pages are */
	bool traps;		/* it may set TF */
	u64 rflags;
	u64 sp;
	u64 rip;
	u16 size;
	u8 code[MAX_CODE];
	u16 starts[MAX_INSNS];	/* of the instructions, in the code */
	int nr_insns;
	u8 mem[MEM_SIZE];	/* what the guest begins with */
};

static const u32 msr_list[] = {
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_FS_BASE, MSR_GS_BASE,
	MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP,
	MSR_IA32_SYSENTER_EIP, MSR_IA32_CR_PAT, MSR_EFER,
};

/* All that can be seen of a guest when it has ended. */
struct outcome {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[ARRAY_SIZE(msr_list)];
	} msrs;
	u8 mem[MEM_SIZE];
	u32 exit_reason;
	int error;
};

struct guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u8 *mem;
	struct outcome fresh;	/* before it runs for the first time */
	struct kvm_xsave xsave;
};

static struct kvm_random_state rng;

static u32 pick(u32 nr)
{
	return kvm_random_u32(&rng) % nr;
}

/* The code above. */
extern const u8 insns16[], insns32[], insns64[], handlers[], handlers_end[],
	  faults16[], faults32[], faults64[], log16[], tf16[], log32[], tf32[], rf32[],
	  log64[], tf64[], rf64[], sysret_legacy[], sysret_compat[], sysret_long[];

static bool chance(u8 percent)
{
	return __kvm_random_bool(&rng, percent);
}

static void add_code(struct program *p, const void *code, u32 size)
{
	TEST_ASSERT(p->size + size <= MAX_CODE, "The program is too long");
	memcpy(p->code + p->size, code, size);
	p->size += size;
}

/* One bit, or one of the values that have a meaning somewhere. */
static u32 pick_value(void)
{
	static const u32 values[] = { 0, 1, 3, 7, 0x100, 0x3000, 0x6000, 0x8000, 0xd, ~0u };

	return chance(50) ? 1u << pick(32) : values[pick(ARRAY_SIZE(values))];
}

static u32 pick_msr(void)
{
	return msr_list[pick(ARRAY_SIZE(msr_list))];
}

static void add_load(struct program *p, u8 reg, u32 value)
{
	u8 opcode = 0xb8 + reg;

	if (p->mode->bits == 16)
		add_code(p, "\x66", 1);
	add_code(p, &opcode, 1);
	add_code(p, &value, sizeof(value));
}

static u64 code_gpa(const struct program *p)
{
	return p->mode->cs_base + p->rip;
}

/* The next instruction loads al with what this one writes into it. */
static void add_self_modification(struct program *p)
{
	u32 disp = p->mode->bits == 16 ? 2 : 4;
	u32 addr = code_gpa(p) + p->size + (p->mode->bits == 64 ? 3 : 2) + disp + 1 + 1;
	u8 value = pick(256);

	add_code(p, p->mode->bits == 16 ? "\xc6\x06" : p->mode->bits == 32 ? "\xc6\x05" :
		 "\xc6\x04\x25", p->mode->bits == 64 ? 3 : 2);
	add_code(p, &addr, disp);
	add_code(p, &value, 1);
	add_code(p, "\xb0\x00", 2);
}

static const u8 *faults_of(u8 bits)
{
	return bits == 16 ? faults16 : bits == 32 ? faults32 : faults64;
}

static const u8 *first_insn(u8 bits)
{
	return bits == 16 ? insns16 : bits == 32 ? insns32 : insns64;
}

static int count_insns(void)
{
	const u8 *insn;
	int nr = 0;

	for (insn = insns16; insn < insns32; insn += 1 + *insn)
		nr++;
	return nr;
}

static const u8 *nth_insn(const struct program *p, int nr)
{
	const u8 *insn = first_insn(p->mode->bits);

	while (nr--)
		insn += 1 + *insn;
	return insn;
}

static bool contains(const u8 *insn, const char *code)
{
	size_t len = strlen(code);
	int i;

	for (i = 1; i + len <= 1 + *insn; i++) {
		if (!memcmp(insn + i, code, len))
			return true;
	}
	return false;
}

/* What ends in different ways for a reason that is not the tool. */
static bool is_left_out(const struct program *p, const u8 *insn)
{
	bool pae = p->mode->cr4 & X86_CR4_PAE && !p->mode->efer;

	/* This may set TF, see make_program(). */
	if (p->restricted && contains(insn, POPF_CODE))
		return true;
	/* These have cases of their own. */
	if (p->restricted && (contains(insn, INT_CODE) || contains(insn, INT3_CODE)))
		return true;
	if (!host_cpu_is_amd)
		return false;
	/* QEMU's RF differs when such an interrupt is injected. */
	if (contains(insn, INT_CODE) || contains(insn, INT3_CODE))
		return true;
	/* The flags that QEMU has after it depend on what follows. */
	if (contains(insn, CMPXCHG_CODE))
		return true;
	/* It is across two pages. QEMU loses the flags if one of them is not mapped. */
	if (contains(insn, XCHG_CODE))
		return true;
	/* QEMU has SYSCALL in real mode, as AMD processors, but KVM's emulator has not. */
	if (contains(insn, SYSCALL_CODE))
		return !p->mode->cr0;
	/* QEMU has it in compatibility mode, AMD processors have not. */
	if (contains(insn, SYSENTER_CODE))
		return p->mode->efer;
	/* QEMU's SVM stops if KVM has emulated it, see set_segments(). */
	if (contains(insn, LTR_CODE))
		return !p->mode->efer;
	/* QEMU sets accessed bits in PDPTEs, which KVM does not accept. */
	return pae && contains(insn, MOV_TO_CR_CODE);
}

static void make_code(struct program *p)
{
	static int nr_insns;
	const u8 *insn;
	int i;

	if (!nr_insns)
		nr_insns = count_insns();
	p->size = 0;
	p->nr_insns = 1 + pick(MAX_INSNS);
	p->rip = CODE_GPA + (chance(50) ? 4096 - pick(64) : 0) - p->mode->cs_base;
	if (p->rip == SMM_RIP)
		p->rip += SMM_PREFIX;
	for (i = 0; i < p->nr_insns; i++) {
		if (chance(40))
			add_load(p, 0, pick_value());
		if (chance(60))
			add_load(p, 1, chance(80) ? pick_msr() : pick_value());
		if (chance(30))
			add_load(p, 2, pick_value());
		if (chance(30))
			add_load(p, 3, pick_value());
		if (chance(5))
			add_self_modification(p);
		do {
			insn = nth_insn(p, pick(nr_insns));
		} while (is_left_out(p, insn));
		p->starts[i] = p->size;
		add_code(p, insn + 1, *insn);
	}
	if (p->mode == &smm_mode && chance(50))
		add_code(p, RSM_CODE, 2);
	add_code(p, faults_of(p->mode->bits), 8);
}

static void put(struct program *p, u32 gpa, u64 value, u32 size)
{
	memcpy(p->mem + gpa, &value, size);
}

/* A flat segment; @flags: granularity and size, @access: type, DPL, present. */
static u64 flat(u8 flags, u8 access)
{
	return 0xffffull | (u64)access << 40 | (u64)(flags << 4 | 0xf) << 48;
}

static u64 system_segment(u32 base, u16 limit, u8 type)
{
	return limit | (u64)base << 16 | (u64)(0x80 | type) << 40;
}

static void make_gdt(struct program *p)
{
	put(p, GDT_GPA + SEL_KERNEL_CS64, p->mode->efer ? flat(0xa, 0x9b) : flat(0xc, 0x9b), 8);
	put(p, GDT_GPA + SEL_KERNEL_DS, flat(0xc, 0x93), 8);
	put(p, GDT_GPA + (SEL_USER_CS32 & ~7), flat(0xc, 0xfb), 8);
	put(p, GDT_GPA + (SEL_USER_DS & ~7), flat(0xc, 0xf3), 8);
	put(p, GDT_GPA + (SEL_USER_CS64 & ~7), flat(0xa, 0xfb), 8);
	put(p, GDT_GPA + SEL_KERNEL_CS32, flat(0xc, 0x9b), 8);
	put(p, GDT_GPA + SEL_KERNEL_CS16, flat(0x8, 0x9b), 8);
	put(p, GDT_GPA + (SEL_USER_CS16 & ~7), flat(0x8, 0xfb), 8);
	put(p, GDT_GPA + SEL_TSS, system_segment(TSS_GPA, 0x67, 11), 8);
	put(p, GDT_GPA + SEL_TSS2, system_segment(TSS2_GPA, 0x67, 9), 8);
	put(p, GDT_GPA + SEL_LDT, system_segment(GDT_GPA, 0x3f, 2), 8);
}

/* Of the exception handlers. */
static u64 kernel_stack(void)
{
	return STACK_GPA + (chance(50) ? 0xff0 : 0x800);
}

static void make_tss(struct program *p, u32 gpa)
{
	if (p->mode->efer) {
		put(p, gpa + 4, kernel_stack(), 8);
	} else {
		put(p, gpa + 4, kernel_stack(), 4);
		put(p, gpa + 8, SEL_KERNEL_DS, 4);
	}
	put(p, gpa + 0x66, 0x68, 2);
}

/* Those of faults, and of vectors that mean nothing, end the program. */
static u32 handler_of(const struct program *p, int vector)
{
	static const u8 *const logging[] = { log16, log32, log64 };
	static const u8 *const changing_tf[] = { tf16, tf32, tf64 };
	/* There is no RF in a frame of 16 bits. */
	static const u8 *const setting_rf[] = { log16, rf32, rf64 };
	int i = p->mode->handler_bits / 32;
	const u8 *handler = faults_of(p->mode->handler_bits) + 8 * min(vector, 32);

	if (vector == 0x80 || vector == BP_VECTOR)
		handler = logging[i];
	else if (vector == 0x81)
		handler = changing_tf[i];
	else if (vector == 0x82 || vector == DB_VECTOR)
		handler = setting_rf[i];

	return HANDLER_GPA + (handler - handlers);
}

static void make_gates(struct program *p)
{
	static const u16 selectors[] = { SEL_KERNEL_CS16, SEL_KERNEL_CS32, SEL_KERNEL_CS64 };
	u64 gate = (u64)selectors[p->mode->handler_bits / 32] << 16;
	int i;

	/* Present, DPL 3. */
	gate |= (p->mode->handler_bits == 16 ? 0xe600ull : 0xee00ull) << 32;
	for (i = 0; i < 256; i++) {
		if (p->mode->cr0)
			put(p, IDT_GPA + i * (p->mode->efer ? 16 : 8), gate | handler_of(p, i), 8);
		else
			put(p, IVT_GPA + i * 4, handler_of(p, i), 4);
	}
}

/* All of it is mapped to itself; nothing is left to be set for the processor. */
static void make_page_table_root(struct program *p, u32 gpa)
{
	if (p->mode->efer)
		put(p, gpa, PDPT_GPA | PTE_BITS, 8);
	else if (p->mode->cr4 & X86_CR4_PAE)
		put(p, gpa, PD_GPA | PTE_PRESENT, 8);
	else
		put(p, gpa, PTE_BITS | PTE_LARGE, 4);
}

static void make_page_tables(struct program *p)
{
	make_page_table_root(p, ROOT_GPA);
	make_page_table_root(p, ROOT2_GPA);
	put(p, PDPT_GPA, PD_GPA | PTE_BITS, 8);
	put(p, PD_GPA, PTE_BITS | PTE_LARGE, 8);
}

static void make_table_operand(struct program *p, u32 gpa, u64 base, u16 limit)
{
	put(p, gpa, limit, 2);
	put(p, gpa + 2, base, 8);
}

static u32 idt_gpa(const struct mode *mode)
{
	return mode->cr0 ? IDT_GPA : IVT_GPA;
}

static u16 idt_limit(const struct mode *mode)
{
	return mode->efer ? 0xfff : mode->cr0 ? 0x7ff : 0x3ff;
}

/* lidt 0x8e00, since there is no IDT at first, and a jump to the program. */
static void make_smm_prefix(struct program *p)
{
	put(p, CODE_GPA, 0x8e001e010full, 5);
	put(p, CODE_GPA + 5, 0xe9, 1);
	put(p, CODE_GPA + 6, p->rip - (SMM_RIP + 8), 2);
}

static void make_memory(struct program *p)
{
	int i;

	memset(p->mem, 0, MEM_SIZE);
	make_gates(p);
	make_gdt(p);
	make_tss(p, TSS_GPA);
	make_tss(p, TSS2_GPA);
	make_page_tables(p);
	memcpy(p->mem + HANDLER_GPA, handlers, handlers_end - handlers);
	for (i = 0; i < 2 * 4096; i += 4)
		put(p, DATA_GPA + i, pick_value(), 4);
	/* Not every processor writes all of it. */
	memset(p->mem + FXSAVE_GPA, 0, 512);
	make_table_operand(p, TABLES_GPA, idt_gpa(p->mode), idt_limit(p->mode));
	make_table_operand(p, TABLES_GPA + 0x10, GDT_GPA, 0x7f);
	make_table_operand(p, TABLES_GPA + 0x20, IDT_GPA, 0);
	if (p->mode == &smm_mode)
		make_smm_prefix(p);
	memcpy(p->mem + code_gpa(p), p->code, p->size);
}

static void make_program(struct program *p, const struct mode *mode)
{
	p->mode = &modes[pick(ARRAY_SIZE(modes))];
	if (mode)
		p->mode = mode;
	p->user = p->mode->cr0 && chance(40);
	p->rflags = X86_EFLAGS_FIXED;
	/* KVM's emulator traps elsewhere: behind MOV SS, and not within REP. */
	p->traps = !p->restricted && chance(50);
	if (p->traps && chance(50))
		p->rflags |= X86_EFLAGS_TF;
	if (chance(25))
		p->rflags |= X86_EFLAGS_RF;
	if (p->user && chance(50))
		p->rflags |= RFLAGS_IOPL_3;
	p->sp = (p->user ? USER_STACK_GPA : STACK_GPA) + (chance(50) ? 0x800 : 0xff0);
	make_code(p);
	make_memory(p);
}

/* QEMU sets these in PDPTEs as well. */
static void forget_accessed(u8 *mem)
{
	mem[ROOT_GPA] &= ~PTE_ACCESSED;
	mem[ROOT2_GPA] &= ~PTE_ACCESSED;
}

static void save(struct guest *guest, struct outcome *o)
{
	struct kvm_vcpu *vcpu = guest->vcpu;
	int i;

	memset(o, 0, sizeof(*o));
	vcpu_regs_get(vcpu, &o->regs);
	/* QEMU does not always clear it behind an instruction. */
	o->regs.rflags &= ~X86_EFLAGS_RF;
	vcpu_sregs_get(vcpu, &o->sregs);
	vcpu_debugregs_get(vcpu, &o->debugregs);
	vcpu_events_get(vcpu, &o->events);
	/* What is left of the last one. */
	if (!o->events.exception.injected && !o->events.exception.pending)
		memset(&o->events.exception, 0, sizeof(o->events.exception));
	if (!o->events.interrupt.injected) {
		o->events.interrupt.nr = 0;
		o->events.interrupt.soft = 0;
	}
	vcpu_xcrs_get(vcpu, &o->xcrs);
	o->msrs.head.nmsrs = ARRAY_SIZE(msr_list);
	for (i = 0; i < ARRAY_SIZE(msr_list); i++)
		o->msrs.entries[i].index = msr_list[i];
	vcpu_msrs_get(vcpu, &o->msrs.head);
	/* AMD processors may have only half of these, or a selector. */
	for (i = 0; i < ARRAY_SIZE(msr_list); i++) {
		if (msr_list[i] == MSR_IA32_SYSENTER_ESP || msr_list[i] == MSR_IA32_SYSENTER_EIP)
			o->msrs.entries[i].data &= GENMASK_ULL(31, 0);
		else if (msr_list[i] == MSR_IA32_SYSENTER_CS)
			o->msrs.entries[i].data &= GENMASK_ULL(15, 0);
	}
	memcpy(o->mem, guest->mem, MEM_SIZE);
	forget_accessed(o->mem);
}

static void create_guest(struct guest *guest)
{
	struct kvm_vm *vm = vm_create_barebones();

	guest->vm = vm;
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, MEM_PAGES, 0);
	guest->mem = addr_gpa2hva(vm, 0);
	if (kvm_has_cap(KVM_CAP_X86_SMM)) {
		vm_set_user_memory_region(vm, SMM_SLOT, 0, 0, MEM_SIZE, guest->mem);
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, SMM_SAVE_GPA,
					    SMM_SAVE_SLOT, 1, 0);
	}
	guest->vcpu = __vm_vcpu_add(vm, 0);
	vcpu_init_cpuid(guest->vcpu, kvm_get_supported_cpuid());
	save(guest, &guest->fresh);
	vcpu_xsave_get(guest->vcpu, &guest->xsave);
}

static void set_segment(struct kvm_segment *seg, u16 selector, u8 type, u8 dpl, bool db, bool l)
{
	memset(seg, 0, sizeof(*seg));
	seg->selector = selector;
	seg->limit = 0xffffffff;
	seg->type = type;
	seg->present = 1;
	seg->dpl = dpl;
	seg->s = 1;
	seg->g = 1;
	seg->db = db;
	seg->l = l;
}

static void set_real_segments(struct kvm_sregs *s)
{
	struct kvm_segment *segs[] = { &s->cs, &s->ds, &s->es, &s->ss, &s->fs, &s->gs };
	int i;

	for (i = 0; i < ARRAY_SIZE(segs); i++) {
		set_segment(segs[i], 0, i ? 3 : 11, 0, false, false);
		segs[i]->limit = 0xffff;
		segs[i]->g = 0;
	}
}

static void set_segments(const struct program *p, struct kvm_sregs *s)
{
	struct kvm_segment *data[] = { &s->ds, &s->es, &s->ss, &s->fs, &s->gs };
	static const u16 selectors[2][3] = {
		{ SEL_KERNEL_CS16, SEL_KERNEL_CS32, SEL_KERNEL_CS64 },
		{ SEL_USER_CS16, SEL_USER_CS32, SEL_USER_CS64 },
	};
	u8 bits = p->mode->bits, dpl = p->user ? 3 : 0;
	int i;

	set_segment(&s->cs, selectors[p->user][bits / 32], 11, dpl, bits == 32, bits == 64);
	for (i = 0; i < ARRAY_SIZE(data); i++)
		set_segment(data[i], p->user ? SEL_USER_DS : SEL_KERNEL_DS, 3, dpl, true, false);
	memset(&s->tr, 0, sizeof(s->tr));
	s->tr.selector = SEL_TSS;
	s->tr.base = TSS_GPA;
	s->tr.limit = 0x67;
	/* QEMU's SVM takes a busy TSS of 32 bits for a wrong one. */
	s->tr.type = host_cpu_is_amd ? 9 : 11;
	s->tr.present = 1;
	memset(&s->ldt, 0, sizeof(s->ldt));
	s->ldt.unusable = 1;
}

static void set_sregs(struct guest *guest, const struct program *p)
{
	struct kvm_sregs s = guest->fresh.sregs;

	s.cr0 = p->mode->cr0 | X86_CR0_ET | X86_CR0_NE;
	s.cr3 = ROOT_GPA;
	s.cr4 = p->mode->cr4 | X86_CR4_MCE | X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
	s.efer = p->mode->efer | EFER_SCE;
	s.idt.base = idt_gpa(p->mode);
	s.idt.limit = idt_limit(p->mode);
	s.gdt.base = GDT_GPA;
	s.gdt.limit = 0x7f;
	if (p->mode->cr0)
		set_segments(p, &s);
	else
		set_real_segments(&s);
	vcpu_sregs_set(guest->vcpu, &s);
}

static void set_msrs(struct guest *guest, bool lm)
{
	struct outcome *fresh = &guest->fresh;
	struct kvm_vcpu *vcpu = guest->vcpu;
	u32 gpa = HANDLER_GPA;

	/* EFER, the last one, has its place in the special registers. */
	fresh->msrs.head.nmsrs = ARRAY_SIZE(msr_list) - 1;
	vcpu_msrs_set(vcpu, &fresh->msrs.head);
	vcpu_set_msr(vcpu, MSR_STAR, (u64)SEL_USER_CS32 << 48 | (u64)SEL_KERNEL_CS64 << 32 |
		     (gpa + (sysret_legacy - handlers)));
	vcpu_set_msr(vcpu, MSR_LSTAR, gpa + (sysret_long - handlers));
	vcpu_set_msr(vcpu, MSR_CSTAR, gpa + (sysret_compat - handlers));
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_CS, SEL_KERNEL_CS64);
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_ESP, STACK_GPA + 0xff0);
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_EIP, gpa + (faults_of(lm ? 64 : 32) - handlers));
}

/* The access that the last program has ended with is still to be completed. */
static void complete_io(struct kvm_vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	while (!__vcpu_run(vcpu))
		;
	TEST_ASSERT_EQ(errno, EINTR);
	vcpu->run->immediate_exit = 0;
}

static void load(struct guest *guest, const struct program *p)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu *vcpu = guest->vcpu;
	struct kvm_regs regs = {
		.rip = p->rip,
		.rsp = p->sp,
		.rflags = p->rflags,
	};

	complete_io(vcpu);
	memcpy(guest->mem, p->mem, MEM_SIZE);
	vcpu_events_set(vcpu, &guest->fresh.events);
	vcpu_mp_state_set(vcpu, &mp_state);
	set_sregs(guest, p);
	set_msrs(guest, p->mode->efer);
	vcpu_xcrs_set(vcpu, &guest->fresh.xcrs);
	vcpu_xsave_set(vcpu, &guest->xsave);
	vcpu_debugregs_set(vcpu, &guest->fresh.debugregs);
	if (p->mode == &smm_mode) {
		/* Where RSM returns to: that is the end. */
		regs.rip = handler_of(p, 32);
		vcpu_set_msr(vcpu, MSR_IA32_SMBASE, SMBASE);
		inject_smi(vcpu);
	}
	vcpu_regs_set(vcpu, &regs);
}

/* The tool gets bored after so many events: it lets the program go on. */
#define MAX_EVENTS	1500
/* And stops a guest that wants what it must not so often. */
#define MAX_DENIED	20
/* Events of a program that nobody retries or steps. */
#define MAX_LATE_EVENTS	500
#define SHOWN_EVENTS	100

#define ALL_ACCESS	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)

struct seen {
	u16 event;
	u8 access;
	u8 action;
	u64 rip;
	u64 gpa;
};

/* The tool: what it does with a program, and what it has seen of it. */
struct watch {
	struct kvmi_tool *tool;
	struct program *p;
	u32 seed;
	u8 access[MEM_PAGES];
	bool denies;
	bool steps;		/* always */
	int denied;
	bool crashed;
	bool misplaced;		/* see kvmi_is_misplaced() */
	struct kvm_regs before;
	int reads;		/* of pages that must not be read */
	int nr_seen;
	struct seen seen[MAX_EVENTS + MAX_LATE_EVENTS];
};

struct counts {
	u64 programs;
	u64 events[KVMI_VCPU_EVENT_SINGLESTEP + 1];
	u64 denied;
	u64 denied_in_smm;
	u64 ended_in_smm;
	u64 halted;
	u64 shut_down;
	u64 ended;
	u64 excluded;
};

static struct counts counts;

static void control_steps(struct kvmi_tool *tool, bool enable)
{
	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, 0, enable), 0);
}

static void enable_events(struct kvmi_tool *tool)
{
	static const u16 events[] = {
		KVMI_VCPU_EVENT_HYPERCALL, KVMI_VCPU_EVENT_BREAKPOINT, KVMI_VCPU_EVENT_CR,
		KVMI_VCPU_EVENT_XSETBV, KVMI_VCPU_EVENT_DESCRIPTOR, KVMI_VCPU_EVENT_MSR,
		KVMI_VCPU_EVENT_PF,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(kvmi_control_event(tool, 0, events[i], 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 0, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 3, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 4, 1), 0);
	for (i = 0; i < ARRAY_SIZE(msr_list); i++)
		TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, msr_list[i], 1), 0);
}

static u64 linear_rip(const struct kvmi_ev *ev)
{
	return ev->common.arch.sregs.cs.base + ev->common.arch.regs.rip;
}

static const struct kvmi_vcpu_event_pf *pf_of(const struct kvmi_ev *ev)
{
	return (void *)ev->payload;
}

static void describe(const struct watch *w)
{
	const struct program *p = w->p;
	int i;

	pr_info("# seed %u, %s, CPL %d, rflags %lx, rip %lx, rsp %lx, code:", w->seed,
		p->mode->name, p->user ? 3 : 0,
		(unsigned long)p->rflags, (unsigned long)p->rip, (unsigned long)p->sp);
	for (i = 0; i < p->size; i++)
		pr_info(" %02x", p->code[i]);
	pr_info("\n# access:");
	for (i = 0; i < MEM_PAGES; i++)
		pr_info(" %x", w->access[i]);
	pr_info("\n");
	for (i = max(w->nr_seen - SHOWN_EVENTS, 0); i < w->nr_seen; i++)
		pr_info("# %d: event %u at %lx, gpa %lx, access %u: %u\n", i, w->seen[i].event,
			(unsigned long)w->seen[i].rip, (unsigned long)w->seen[i].gpa,
			w->seen[i].access, w->seen[i].action);
}

static struct seen *record(struct watch *w, const struct kvmi_ev *ev)
{
	struct seen *seen = &w->seen[w->nr_seen++];

	if (w->nr_seen == ARRAY_SIZE(w->seen) || w->crashed) {
		describe(w);
		TEST_FAIL("The guest goes on for too long");
	}
	memset(seen, 0, sizeof(*seen));
	seen->event = ev->event.event;
	seen->rip = linear_rip(ev);
	if (seen->event == KVMI_VCPU_EVENT_PF) {
		seen->gpa = pf_of(ev)->gpa;
		seen->access = pf_of(ev)->access;
		w->reads += seen->access == KVMI_PAGE_ACCESS_R;
	}
	counts.events[seen->event]++;

	return seen;
}

/* What raises these was fetched, and is about to be executed. */
static bool is_insn_event(u16 event)
{
	return event != KVMI_VCPU_EVENT_PF && event != KVMI_VCPU_EVENT_SINGLESTEP &&
	       event != KVMI_VCPU_EVENT_PAUSE;
}

static bool may_retry(u16 event)
{
	return event == KVMI_VCPU_EVENT_PF || event == KVMI_VCPU_EVENT_DESCRIPTOR ||
	       event == KVMI_VCPU_EVENT_BREAKPOINT;
}

static u64 pick_other_rip(const struct program *p)
{
	if (p->mode != &smm_mode && chance(50))
		return handler_of(p, 0);
	return p->rip + p->starts[pick(p->nr_insns)];
}

/* The access must not happen: the guest tries again, goes elsewhere, or is stopped. */
static u8 deny(struct watch *w, const struct kvmi_ev *ev)
{
	struct kvm_regs regs = ev->common.arch.regs;

	counts.denied++;
	counts.denied_in_smm += ev->common.arch.sregs.cs.base == SMBASE;
	if (++w->denied > MAX_DENIED) {
		w->crashed = true;
		return KVMI_EVENT_ACTION_CRASH;
	}
	/* Not from a handler to code of another mode. */
	if (ev->common.arch.mode == w->p->mode->bits / 8 &&
	    ev->common.arch.sregs.cs.base == w->p->mode->cs_base && chance(70)) {
		regs.rip = pick_other_rip(w->p);
		TEST_ASSERT_EQ(kvmi_set_registers(w->tool, 0, &regs), 0);
	}

	return KVMI_EVENT_ACTION_RETRY;
}

static u8 choose_action(struct watch *w, const struct kvmi_ev *ev)
{
	u16 event = ev->event.event;

	if (w->denies && event == KVMI_VCPU_EVENT_PF && pf_of(ev)->access != KVMI_PAGE_ACCESS_R)
		return deny(w, ev);
	if (may_retry(event) && w->nr_seen < MAX_EVENTS && chance(15))
		return KVMI_EVENT_ACTION_RETRY;

	return KVMI_EVENT_ACTION_CONTINUE;
}

static void restrict_pages(struct watch *w)
{
	struct kvmi_page_access_entry entries[MEM_PAGES] = {};
	int i;

	for (i = 0; i < MEM_PAGES; i++) {
		entries[i].gpa = i * 4096;
		entries[i].access = w->access[i];
	}
	TEST_ASSERT_EQ(kvmi_set_page_accesses(w->tool, entries, MEM_PAGES), 0);
}

/* A program that takes too long goes on without steps; nothing is restricted any more. */
static void give_up(struct watch *w)
{
	control_steps(w->tool, false);
	if (w->denies)
		return;
	memset(w->access, ALL_ACCESS, sizeof(w->access));
	restrict_pages(w);
}

/* An SMI is held back while the vCPU is stepped. */
static bool may_step(const struct watch *w, const struct seen *seen)
{
	return w->p->mode != &smm_mode || seen->event != KVMI_VCPU_EVENT_PAUSE;
}

static void answer(struct watch *w, const struct kvmi_ev *ev)
{
	struct seen *seen = record(w, ev);

	if (w->denies && is_insn_event(seen->event) && seen->rip < MEM_SIZE &&
	    !(w->access[seen->rip >> 12] & KVMI_PAGE_ACCESS_X)) {
		describe(w);
		TEST_FAIL("Code was executed that must not be");
	}

	w->misplaced |= kvmi_is_misplaced(&w->before, &ev->common.arch.regs);
	w->before = ev->common.arch.regs;
	if (w->nr_seen == MAX_EVENTS)
		give_up(w);
	else if (w->nr_seen < MAX_EVENTS && (seen->event == KVMI_VCPU_EVENT_PAUSE || chance(10)))
		control_steps(w->tool, may_step(w, seen) && (w->steps || chance(50)));

	seen->action = choose_action(w, ev);
	if (seen->action == KVMI_EVENT_ACTION_CONTINUE)
		kvmi_let_pass(w->tool, ev);
	else
		kvmi_reply(w->tool, ev, seen->action);
}

static void pick_accesses(struct watch *w, u8 percent)
{
	static const u8 accesses[] = {
		0, KVMI_PAGE_ACCESS_R, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W,
		KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X,
	};
	int i;

	for (i = 0; i < MEM_PAGES; i++)
		w->access[i] = chance(percent) ? accesses[pick(ARRAY_SIZE(accesses))] :
			       ALL_ACCESS;
}

static void finish(struct guest *guest, struct kvmi_runner *runner, struct outcome *o)
{
	kvmi_join(runner);
	save(guest, o);
	o->exit_reason = runner->exit_reason;
}

static void run_alone(struct guest *guest, const struct program *p, struct outcome *o)
{
	struct kvmi_runner runner;

	load(guest, p);
	kvmi_start(&runner, guest->vcpu);
	finish(guest, &runner, o);
}

static void run_watched(struct guest *guest, struct watch *w, struct outcome *o)
{
	struct kvmi_tool *tool = w->tool;
	struct kvmi_runner runner;
	int idle_ms = 0;
	bool running;
	struct kvmi_ev ev;

	w->nr_seen = 0;
	w->denied = 0;
	w->reads = 0;
	w->crashed = false;
	w->misplaced = false;
	memset(&w->before, 0, sizeof(w->before));
	load(guest, w->p);
	restrict_pages(w);
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 0), 0);
	kvmi_start(&runner, guest->vcpu);
	for (;;) {
		running = READ_ONCE(runner.running);
		if (kvmi_readable(tool, running)) {
			TEST_ASSERT(kvmi_next_event(tool, &ev), "KVM has closed the connection");
			answer(w, &ev);
			idle_ms = 0;
		} else if (!running) {
			break;
		} else if (++idle_ms > KVMI_TIMEOUT_MS) {
			describe(w);
			TEST_FAIL("The vCPU hangs");
		}
	}
	finish(guest, &runner, o);
}

static void count_end(const struct watch *w, const struct outcome *o)
{
	counts.programs++;
	counts.ended_in_smm += o->events.smi.smm;
	if (o->exit_reason == KVM_EXIT_HLT)
		counts.halted++;
	else if (o->exit_reason == KVM_EXIT_SHUTDOWN)
		counts.shut_down++;
	else
		counts.ended++;
}

static bool differs(const char *name, const void *alone, const void *watched, size_t size)
{
	const u8 *a = alone, *b = watched;
	size_t i;

	if (!memcmp(a, b, size))
		return false;
	for (i = 0; i < size; i++) {
		if (a[i] != b[i])
			pr_info("# %s, byte %lx: %02x instead of %02x\n", name, (unsigned long)i,
				b[i], a[i]);
	}
	return true;
}

static bool outcome_differs(const struct outcome *alone, const struct outcome *watched)
{
	static const struct {
		const char *name;
		size_t offset;
		size_t size;
	} parts[] = {
		{ "exit", offsetof(struct outcome, exit_reason), sizeof(u32) },
		{ "errno", offsetof(struct outcome, error), sizeof(int) },
		{ "memory", offsetof(struct outcome, mem), MEM_SIZE },
		/* There are no registers after a shutdown: KVM resets the vCPU, or not. */
		{ "regs", offsetof(struct outcome, regs), sizeof(struct kvm_regs) },
		{ "sregs", offsetof(struct outcome, sregs), sizeof(struct kvm_sregs) },
		{ "debugregs", offsetof(struct outcome, debugregs), sizeof(struct kvm_debugregs) },
		{ "events", offsetof(struct outcome, events), sizeof(struct kvm_vcpu_events) },
		{ "xcrs", offsetof(struct outcome, xcrs), sizeof(struct kvm_xcrs) },
		{ "msrs", offsetof(struct outcome, msrs), sizeof(alone->msrs) },
	};
	int nr = alone->exit_reason == KVM_EXIT_SHUTDOWN ? 3 : ARRAY_SIZE(parts);
	bool r = false;
	int i;

	for (i = 0; i < nr; i++)
		r |= differs(parts[i].name, (const void *)alone + parts[i].offset,
			     (const void *)watched + parts[i].offset, parts[i].size);

	return r;
}

/* Whatever the guest did, it did not write there. */
static void check_pages(struct watch *w, const struct outcome *o)
{
	int i;

	forget_accessed(w->p->mem);

	for (i = 0; i < MEM_PAGES; i++) {
		if (w->access[i] & KVMI_PAGE_ACCESS_W ||
		    !differs("page", w->p->mem + i * 4096, o->mem + i * 4096, 4096))
			continue;
		describe(w);
		TEST_FAIL("Page %d was written", i);
	}
}

static u32 get_setting(const char *name, u32 value)
{
	const char *text = getenv(name);

	return text ? atoi_positive(name, text) : value;
}

FIXTURE(kvmi_adversary) {
	struct guest alone;
	struct guest watched;
	struct watch w;
	struct program p;
	struct outcome o[2];
	struct timespec start;
	u32 seed;
	u32 rounds;
};

FIXTURE_SETUP(kvmi_adversary)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	create_guest(&self->alone);
	create_guest(&self->watched);
	self->w.tool = kvmi_hook(self->watched.vm);
	self->w.p = &self->p;
	self->seed = get_setting("KVMI_ADVERSARY_SEED", DEFAULT_SEED);
	self->rounds = get_setting("KVMI_ADVERSARY_ROUNDS", DEFAULT_ROUNDS);
	memset(&counts, 0, sizeof(counts));
	clock_gettime(CLOCK_MONOTONIC, &self->start);

	rng = new_kvm_random_state(self->seed);
	make_program(&self->p, NULL);
	load(&self->watched, &self->p);
	kvmi_start_paused(self->w.tool, &runner, self->watched.vcpu, &ev);
	enable_events(self->w.tool);
	kvmi_reply(self->w.tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_crash(&runner);
}

FIXTURE_TEARDOWN(kvmi_adversary)
{
	struct timespec ts = timespec_elapsed(self->start);

	ksft_print_msg("seed %u: %lu programs in %ld ms: %lu halted, %lu shut down, %lu ended; "
		       "%lu accesses denied, %lu left out\n", self->seed,
		       (unsigned long)counts.programs,
		       (long)(timespec_to_ns(ts) / 1000000), (unsigned long)counts.halted,
		       (unsigned long)counts.shut_down, (unsigned long)counts.ended,
		       (unsigned long)counts.denied, (unsigned long)counts.excluded);
	kvmi_free(self->w.tool);
	kvm_vm_free(self->alone.vm);
	kvm_vm_free(self->watched.vm);
}

/* @percent of the pages are restricted; NULL stands for any mode. */
static void begin_round(struct watch *w, struct program *p, const struct mode *mode, u32 seed,
			u8 percent)
{
	rng = new_kvm_random_state(seed);
	/* Seeds that follow each other begin with similar numbers. */
	kvm_random_u32(&rng);
	w->seed = seed;
	p->restricted = percent;
	make_program(p, mode);
	pick_accesses(w, percent);
}

/* The result says nothing. */
static bool is_void(const struct watch *w, const struct outcome *o)
{
	/* The processor may have used what was there, or not. */
	return w->misplaced ||
	       memcmp(o[0].mem + PDPT_GPA, w->p->mem + PDPT_GPA, 2 * 4096);
}

/* The guest does not notice the tool. */
static void run_transparent(struct guest *alone, struct guest *watched, struct watch *w,
			    struct outcome *o, const struct mode *mode, u32 seed, u32 rounds)
{
	u32 i;

	w->denies = false;
	for (i = 0; i < rounds; i++) {
		begin_round(w, w->p, mode, seed + i, i & 1 ? 30 : 0);
		run_alone(alone, w->p, &o[0]);
		run_watched(watched, w, &o[1]);
		count_end(w, &o[1]);
		if (is_void(w, o)) {
			counts.excluded++;
			continue;
		}
		if (!outcome_differs(&o[0], &o[1]))
			continue;
		describe(w);
		TEST_FAIL("The guest ends in another way");
	}
	TEST_ASSERT(counts.excluded <= rounds / 4, "Most of it says nothing");
}

/* Pages that must not be written or executed. */
static void run_guarded(struct guest *watched, struct watch *w, struct outcome *o,
			const struct mode *mode, u32 seed, u32 rounds)
{
	u32 i;

	w->denies = true;
	for (i = 0; i < rounds; i++) {
		begin_round(w, w->p, mode, seed + i, 30);
		run_watched(watched, w, o);
		count_end(w, o);
		check_pages(w, o);
	}
}

TEST_F(kvmi_adversary, transparent)
{
	run_transparent(&self->alone, &self->watched, &self->w, self->o, NULL, self->seed,
			self->rounds);
}

TEST_F(kvmi_adversary, guarded)
{
	run_guarded(&self->watched, &self->w, self->o, NULL, self->seed, self->rounds);
}

/* What is restricted is so in the address space of this mode, too. */
TEST_F(kvmi_adversary, smm_transparent)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "This kernel has no system management mode");

	run_transparent(&self->alone, &self->watched, &self->w, self->o, &smm_mode, self->seed,
			self->rounds);
	TEST_ASSERT(counts.ended_in_smm, "No program was in that mode");
}

TEST_F(kvmi_adversary, smm_guarded)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "This kernel has no system management mode");

	run_guarded(&self->watched, &self->w, self->o, &smm_mode, self->seed, self->rounds);
	TEST_ASSERT(counts.denied_in_smm, "Nothing was denied in that mode");
}

/* One instruction, and the end. */
static void make_single(struct watch *w, struct program *p, const struct mode *mode,
			const void *code, u32 size)
{
	p->mode = mode;
	p->user = false;
	p->rflags = X86_EFLAGS_FIXED;
	p->sp = STACK_GPA + 0x800;
	p->rip = CODE_GPA;
	p->size = 0;
	p->nr_insns = 1;
	p->starts[0] = 0;
	add_code(p, code, size);
	add_code(p, faults_of(mode->bits), 8);
	make_memory(p);
	memset(w->access, ALL_ACCESS, sizeof(w->access));
}

static void expect_same(struct guest *alone, struct guest *watched, struct watch *w,
			struct outcome *o)
{
	w->denies = false;
	run_alone(alone, w->p, &o[0]);
	run_watched(watched, w, &o[1]);
	if (outcome_differs(&o[0], &o[1]) || w->nr_seen >= MAX_EVENTS) {
		describe(w);
		TEST_FAIL("The guest ends in another way, after %d events", w->nr_seen);
	}
}

static void expect_guarded(struct guest *watched, struct watch *w, struct outcome *o)
{
	w->denies = true;
	run_watched(watched, w, o);
	check_pages(w, o);
}

/* Executed by KVM, because the page of the code is not executable. */
TEST_F(kvmi_adversary, halt)
{
	make_single(&self->w, &self->p, &modes[LONG_MODE], HLT, 1);
	self->w.access[CODE_GPA >> 12] = KVMI_PAGE_ACCESS_R;
	expect_same(&self->alone, &self->watched, &self->w, self->o);
}

TEST_F(kvmi_adversary, hypercall)
{
	make_single(&self->w, &self->p, &modes[LONG_MODE],
		    host_cpu_is_amd_compatible ? VMMCALL_CODE : VMCALL_CODE, 3);
	self->w.access[CODE_GPA >> 12] = KVMI_PAGE_ACCESS_R;
	expect_same(&self->alone, &self->watched, &self->w, self->o);
}

/* Both pages are restricted: it is executed once all the same. */
TEST_F(kvmi_adversary, crossing)
{
	/* add %edx, 0x8ffd */
	static const u8 code[] = { 0xba, 3, 0, 0, 0, 0x01, 0x15, 0xfd, 0x8f, 0, 0 };

	make_single(&self->w, &self->p, &modes[PROTECTED_MODE], code, sizeof(code));
	self->w.access[DATA_GPA >> 12] = KVMI_PAGE_ACCESS_R;
	self->w.access[(DATA_GPA >> 12) + 1] = KVMI_PAGE_ACCESS_R;
	expect_same(&self->alone, &self->watched, &self->w, self->o);
}

/* Stepped over, which looks at the code in another way. */
TEST_F(kvmi_adversary, interrupt)
{
	make_single(&self->w, &self->p, &modes[LONG_MODE], "\xcd\x80", 2);
	self->w.access[CODE_GPA >> 12] = KVMI_PAGE_ACCESS_R;
	self->w.steps = true;
	expect_same(&self->alone, &self->watched, &self->w, self->o);
}

TEST_F(kvmi_adversary, guarded_interrupt)
{
	make_single(&self->w, &self->p, &modes[LONG_MODE], "\xcd\x80", 2);
	self->w.access[CODE_GPA >> 12] = KVMI_PAGE_ACCESS_R;
	/* Its handler reads there. */
	self->w.access[LOG_GPA >> 12] = 0;
	self->w.steps = true;
	expect_guarded(&self->watched, &self->w, &self->o[1]);
	TEST_ASSERT_EQ(self->w.reads, 0);
}

/* That the processor may read the IDT does not mean that it may write there. */
TEST_F(kvmi_adversary, stack_in_idt)
{
	make_single(&self->w, &self->p, &modes[PROTECTED_MODE], "\x0f\x0b", 2);
	self->p.sp = IDT_GPA + 0xff0;
	self->w.access[IDT_GPA >> 12] = 0;
	expect_guarded(&self->watched, &self->w, &self->o[1]);
	TEST_ASSERT(self->w.denied, "Nothing was denied");
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
