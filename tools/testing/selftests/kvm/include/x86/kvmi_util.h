/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tool's side of KVM introspection, for tests: every frame can be built by
 * hand, wrong ones too.
 */
#ifndef SELFTEST_KVM_KVMI_UTIL_H
#define SELFTEST_KVM_KVMI_UTIL_H

#include <errno.h>
#include <linux/kvm_para.h>
#include <linux/kvmi.h>
#include <linux/list.h>
#include <pthread.h>
#include <stdbool.h>

#include "kvm_util.h"
#include "processor.h"

/* Seconds for a case; the usual 30 are too few on an emulated host. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	300

/* Nothing in these tests takes this long, on the slowest emulator. */
#define KVMI_TIMEOUT_MS		20000

/* How long "nothing happens" is watched. */
#define KVMI_QUIET_MS		100

/* A vCPU event without payload, and the largest one. */
#define KVMI_EVENT_SIZE		(sizeof(struct kvmi_event_hdr) + \
				 sizeof(struct kvmi_vcpu_event))
#define KVMI_MAX_PAYLOAD	24

/* An event that came from KVM. */
struct kvmi_ev {
	struct kvmi_msg_hdr hdr;
	struct kvmi_event_hdr event;
	struct kvmi_vcpu_event common;
	u8 payload[KVMI_MAX_PAYLOAD];
	struct list_head entry;
};

/* The tool: the other end of the VM's socket. */
struct kvmi_tool {
	struct kvm_vm *vm;
	int fd;
	u32 seq;
	struct list_head events;	/* that came while a reply was waited for */
};

/* Ioctls: these return 0 or an errno. */
int kvmi_hook_errno(struct kvm_vm *vm, unsigned long cmd, int fd, u32 padding);
int kvmi_feature_errno(struct kvm_vm *vm, unsigned long cmd, s32 id, u32 allow);
int kvmi_unhook_errno(struct kvm_vm *vm);
int kvmi_preunhook_errno(struct kvm_vm *vm);
int kvmi_deadline_errno(struct kvm_vm *vm, u32 timeout_ms, u32 max_missed);

/* Hook with everything allowed, with nothing, by ATTACH. */
struct kvmi_tool *kvmi_hook(struct kvm_vm *vm);
struct kvmi_tool *kvmi_hook_bare(struct kvm_vm *vm);
struct kvmi_tool *kvmi_attach(struct kvm_vm *vm);
struct kvmi_tool *kvmi_adopt(struct kvm_vm *vm, int fd);
struct kvmi_tool *kvmi_rehook(struct kvmi_tool *tool);
void kvmi_unhook(struct kvm_vm *vm);
void kvmi_close(struct kvmi_tool *tool);
void kvmi_free(struct kvmi_tool *tool);

/* Frames. */
void kvmi_write(struct kvmi_tool *tool, const void *data, size_t len);
u32 kvmi_send(struct kvmi_tool *tool, u16 id, const void *data, size_t len);
bool kvmi_read(struct kvmi_tool *tool, void *data, size_t len);
bool kvmi_recv(struct kvmi_tool *tool, struct kvmi_msg_hdr *hdr, void *data,
	       size_t size);
bool kvmi_readable(struct kvmi_tool *tool, int timeout_ms);
void kvmi_expect_quiet(struct kvmi_tool *tool);
void kvmi_expect_closed(struct kvmi_tool *tool);
int kvmi_recv_reply(struct kvmi_tool *tool, u16 id, u32 seq, void *reply,
		    size_t size, size_t *got);

/* Commands: these return the error of the reply, 0 or -KVM_E*. */
int kvmi_cmd_any(struct kvmi_tool *tool, u16 id, const void *req, size_t len,
		 void *reply, size_t size, size_t *got);
int kvmi_cmd(struct kvmi_tool *tool, u16 id, const void *req, size_t len,
	     void *reply, size_t size);
u32 kvmi_send_vcpu(struct kvmi_tool *tool, u16 id, u16 vcpu, const void *req,
		   size_t len);
int kvmi_vcpu_cmd(struct kvmi_tool *tool, u16 id, u16 vcpu, const void *req,
		  size_t len, void *reply, size_t size);
void kvmi_check_version(struct kvmi_tool *tool);
int kvmi_control_vm_event(struct kvmi_tool *tool, u16 event, u8 enable);
int kvmi_control_event(struct kvmi_tool *tool, u16 vcpu, u16 event, u8 enable);
int kvmi_pause(struct kvmi_tool *tool, u16 vcpu, u8 wait);
int kvmi_read_physical(struct kvmi_tool *tool, u64 gpa, void *data, u16 size);
int kvmi_write_physical(struct kvmi_tool *tool, u64 gpa, const void *data,
			u16 size);
int kvmi_get_registers(struct kvmi_tool *tool, u16 vcpu, struct kvm_regs *regs);
int kvmi_set_registers(struct kvmi_tool *tool, u16 vcpu,
		       const struct kvm_regs *regs);
int kvmi_control_cleanup(struct kvmi_tool *tool, u8 enable);
int kvmi_control_cr(struct kvmi_tool *tool, u16 vcpu, u8 cr, u8 enable);
int kvmi_control_msr(struct kvmi_tool *tool, u16 vcpu, u32 msr, u8 enable);
int kvmi_control_singlestep(struct kvmi_tool *tool, u16 vcpu, u8 enable);
int kvmi_inject(struct kvmi_tool *tool, u16 vcpu, u8 nr, u32 error_code,
		u64 address);
int kvmi_get_xcr(struct kvmi_tool *tool, u16 vcpu, u8 xcr, u64 *value);
int kvmi_get_xsave(struct kvmi_tool *tool, u16 vcpu, struct kvm_xsave *xsave);
int kvmi_set_xsave(struct kvmi_tool *tool, u16 vcpu,
		   const struct kvm_xsave *xsave);
int kvmi_get_mtrr_type(struct kvmi_tool *tool, u16 vcpu, u64 gpa, u8 *type);
int kvmi_translate(struct kvmi_tool *tool, u16 vcpu, u64 gva, u64 *gpa);
int kvmi_set_page_access(struct kvmi_tool *tool, u64 gpa, u8 access);
int kvmi_set_page_accesses(struct kvmi_tool *tool,
			   const struct kvmi_page_access_entry *entries, u16 count);

/* Commands to vCPU 0 that have to fail, each of the @nr requests in an array. */
void kvmi_expect_errors(struct kvmi_tool *tool, u16 id, const void *reqs,
			size_t size, int nr, int err);
void kvmi_expect_command_denied(struct kvmi_tool *tool, u16 id);

/* What the VMM allows the tool, from now on. */
void kvmi_allow_command(struct kvm_vm *vm, u16 id, u32 allow);
void kvmi_allow_event(struct kvm_vm *vm, u16 event, u32 allow);

/* Events. */
bool kvmi_next_event(struct kvmi_tool *tool, struct kvmi_ev *ev);
void kvmi_expect_event(struct kvmi_tool *tool, u16 vcpu, u16 event,
		       struct kvmi_ev *ev);
void kvmi_reply(struct kvmi_tool *tool, const struct kvmi_ev *ev, u8 action);
void kvmi_reply_data(struct kvmi_tool *tool, const struct kvmi_ev *ev,
		     u8 action, const void *data, size_t len);
void kvmi_reply_value(struct kvmi_tool *tool, const struct kvmi_ev *ev,
		      u64 new_val);

/* What the guest wanted happens: CONTINUE, with the value that it writes. */
void kvmi_let_pass(struct kvmi_tool *tool, const struct kvmi_ev *ev);
void kvmi_expect_payload(const struct kvmi_ev *ev, size_t size);

/* A thread that runs a vCPU until the guest says UCALL_DONE. */
struct kvmi_runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	pid_t tid;		/* of the thread, once it runs */
	bool leave;		/* stop at the next EINTR */
	bool running;		/* the thread has not ended */
	u64 interrupted;	/* KVM_RUN was left with EINTR so often */
	u64 synced;		/* last UCALL_SYNC of the guest */
	u64 syncs;		/* number of them */
	int error;		/* errno of the last KVM_RUN */
	bool done;		/* UCALL_DONE */
	u32 exit_reason;	/* of the last KVM_RUN, if it was no ucall */
};

void kvmi_start(struct kvmi_runner *runner, struct kvm_vcpu *vcpu);
void kvmi_join(struct kvmi_runner *runner);
void kvmi_interrupt(struct kvmi_runner *runner);
void kvmi_stop(struct kvmi_runner *runner);
void kvmi_wait_sync(struct kvmi_runner *runner, u64 at_least);
void kvmi_expect_done(struct kvmi_runner *runner);
void kvmi_expect_crash(struct kvmi_runner *runner);

/* Start a vCPU, with an event enabled, or with it waiting in a pause event. */
void kvmi_enable_and_start(struct kvmi_tool *tool, struct kvmi_runner *runner,
			   struct kvm_vcpu *vcpu, u16 event);
void kvmi_start_paused(struct kvmi_tool *tool, struct kvmi_runner *runner,
		       struct kvm_vcpu *vcpu, struct kvmi_ev *ev);

/*
 * A guest that calls what the host tells it to, one after another, and leaves
 * KVM_RUN all the time meanwhile. It is for the first two vCPUs of a VM.
 */
typedef u64 (*kvmi_guest_fn)(u64 a0, u64 a1);

void kvmi_start_agent(struct kvmi_runner *runner, struct kvm_vcpu *vcpu);
void kvmi_call_begin(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1);
u64 kvmi_call_end(struct kvm_vcpu *vcpu);
bool kvmi_call_is_done(struct kvm_vcpu *vcpu);
u64 kvmi_call(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1);

/*
 * A page whose use is restricted: at its start there is a function that returns
 * KVMI_PAGE_RET, further in there is a value.
 */
#define KVMI_PAGE_RET		0x123
#define KVMI_PAGE_OFFSET	0x5c8
#define KVMI_PAGE_VALUE		0x1122334455667788ull

struct kvmi_page {
	gva_t gva;
	gpa_t gpa;
	u8 *bytes;	/* in the host */
	u64 *value;
};

void kvmi_page_fill(u8 *bytes);
void kvmi_page_init(struct kvm_vm *vm, gva_t gva, struct kvmi_page *page);
void kvmi_page_alloc(struct kvm_vm *vm, struct kvmi_page *page);

/* What is allowed from now on, and the event about what is not. */
void kvmi_restrict(struct kvmi_tool *tool, const struct kvmi_page *page, u8 access);
void kvmi_enable_pf(struct kvmi_tool *tool, u16 vcpu);
void kvmi_check_pf(const struct kvmi_ev *ev, gva_t gva, gpa_t gpa, u8 access,
		   bool emulated);
void kvmi_expect_pf(struct kvmi_tool *tool, u16 vcpu, gva_t gva, gpa_t gpa, u8 access,
		    struct kvmi_ev *ev);

/*
 * How often the agent leaves guest mode for a call, by KVM's own statistics. The
 * vCPU must not run.
 */
u64 kvmi_count_exits(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1);
void kvmi_expect_few_exits(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, u64 a0, u64 a1,
			   u64 at_most);

/* Why the host cannot intercept (and inject) the #BP of an INT3, NULL if it can. */
const char *kvmi_int3_lacks(bool inject);

/* A page that is mapped with an own entry of the root of the page tables. */
gva_t kvmi_map_far(struct kvm_vm *vm, gpa_t *gpa);
/* Another root, with the same mappings but this one: its address for CR3. */
gpa_t kvmi_root_without(struct kvm_vm *vm, gva_t gva);

/*
 * Let the guest run at CPL 3, with all of its memory. The TSS has the stack pointer
 * for exceptions.
 */
#define KVMI_USER_DS	0x5b
#define KVMI_USER_CS	0x63

void kvmi_allow_user(struct kvm_vm *vm, gva_t stack);

/* For guests. */

/*
 * Execute an instruction, directly or by KVM's emulator: the vector and, from bit 8,
 * the error code of its exception, 0 for none.
 */
#define __kvmi_guest_try(safe_ec, insn, inputs...)			\
({									\
	u64 try_error_code;						\
	u8 try_vector = safe_ec(insn, try_error_code, inputs);		\
									\
	try_vector ? try_vector | try_error_code << 8 : 0;		\
})

#define kvmi_guest_try(insn, inputs...)					\
	__kvmi_guest_try(kvm_asm_safe_ec, insn, inputs)
#define kvmi_guest_try_fep(insn, inputs...)				\
	__kvmi_guest_try(kvm_asm_safe_ec_fep, insn, inputs)

/* The end of a guest that is written in assembler: a place to jump to. */
void kvmi_guest_done(void);

/* An access to memory, and its exception. */
u64 kvmi_guest_read(u64 gva, u64 unused);

/* An access to memory: what is there, what the code there returns, what is stored. */
u64 kvmi_guest_load(u64 gva, u64 unused);
u64 kvmi_guest_fetch(u64 gva, u64 unused);
u64 kvmi_guest_store(u64 gva, u64 val);
/* By an instruction that KVM's emulator does not know. */
u64 kvmi_guest_strange_store(u64 gva, u64 val);

/*
 * Bochs 3.0 holds back the host's timer interrupts while a guest that never
 * exits has interrupts disabled: such a guest would stop the host. Nobody sends
 * these guests any interrupt.
 */
static inline void kvmi_guest_may_spin(void)
{
	asm volatile("sti");
}

static inline u64 kvmi_guest_hypercall_args(u64 a0, u64 a1)
{
	u64 ret;

	asm volatile("test %[amd], %[amd]\n\t"
		     "jnz 1f\n\t"
		     "vmcall\n\t"
		     "jmp 2f\n\t"
		     "1: vmmcall\n\t"
		     "2:\n\t"
		     : "=a"(ret)
		     : "a"((u64)KVM_HC_XEN_HVM_OP), "D"(a0), "S"(a1),
		       [amd] "r"((u64)host_cpu_is_amd_compatible)
		     : "memory", "cc");
	return ret;
}

/* Ask for an event, as an agent inside of a guest would. */
static inline u64 kvmi_guest_hypercall(void)
{
	return kvmi_guest_hypercall_args(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT, 0);
}

#define KVMI_REQUIRE() \
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_INTROSPECTION) > 0)

/* A suite in which each case has a hooked VM of its own. */
#define KVMI_TEST_SUITE(name, vcpus)					\
	FIXTURE(name) {							\
		struct kvm_vm *vm;					\
		struct kvm_vcpu *vcpu[vcpus];				\
		struct kvmi_tool *tool;					\
	};								\
									\
	FIXTURE_SETUP(name) {						\
		self->vm = vm_create_with_vcpus(vcpus, NULL, self->vcpu); \
		self->tool = kvmi_hook(self->vm);			\
	}								\
									\
	FIXTURE_TEARDOWN(name) {					\
		kvmi_free(self->tool);					\
		kvm_vm_free(self->vm);					\
	}

#endif
