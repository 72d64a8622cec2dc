// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: who may attach to a VMM that knows nothing of it, and what
 * becomes of the VM when one of those who have it goes.
 *
 * VMMs and tools are processes. Where it does not matter the test is the tool.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

#define USER	1000
#define OTHER	1001

#define YAMA_SCOPE	"/proc/sys/kernel/yama/ptrace_scope"
/* The VMM's argument after exec(). */
#define IDLE		"--idle"

#define RACE_ROUNDS	100
#define END_ROUNDS	200
/* The VMM ends so much later than the tool begins, or the other way round. */
#define END_US		3000

/* In a segment of all processes. The VM and its vCPU are numbers in the VMM. */
static struct vmm {
	pid_t pid;
	int vm_fd;
	int vcpu_fd;
	u64 steps;	/* of the guest */
	pid_t holder;	/* also has the VM */
	int held_fd;
} *vmm;

static int segment;

/* Privileges, in the order they are set; without anything, this is root. */
struct who {
	uid_t ruid, euid, suid;
	gid_t gid;
	u64 caps;	/* to keep from root; 0: as the ids have it */
	bool new_userns;
	bool undumpable;	/* like a setuid program */
	bool set_ids_only;	/* not like a program that the user has started */
	void (*then)(void);
};

#define USER_IDS	.ruid = USER, .euid = USER, .suid = USER, .gid = USER

static const struct who root, user = { USER_IDS }, other = { OTHER, OTHER, OTHER, OTHER };

static void keep_caps(u64 keep)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	TEST_ASSERT(!syscall(SYS_capget, &hdr, data), "capget");
	data[0].permitted &= keep;
	data[0].effective = data[0].permitted;
	data[1].permitted &= keep >> 32;
	data[1].effective = data[1].permitted;
	TEST_ASSERT(!syscall(SYS_capset, &hdr, data), "capset");
}

static void become(const struct who *who)
{
	prctl(PR_SET_KEEPCAPS, !!who->caps);
	TEST_ASSERT(!syscall(SYS_setgroups, 0, NULL) &&
		    !syscall(SYS_setresgid, who->gid, who->gid, who->gid) &&
		    !syscall(SYS_setresuid, who->ruid, who->euid, who->suid),
		    "Cannot change ids");
	if (who->caps)
		keep_caps(who->caps);
	if (who->new_userns)
		TEST_ASSERT(!unshare(CLONE_NEWUSER), "unshare: %s", strerror(errno));
	if (!who->set_ids_only)
		prctl(PR_SET_DUMPABLE, !who->undumpable);
	/* Changing ids has cleared it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (who->then)
		who->then();
}

static void guest_loop(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static void run_vmm(const struct who *who)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_loop);

	vmm->vm_fd = vm->fd;
	vmm->vcpu_fd = vcpu->fd;
	become(who);

	for (;;) {
		if (!__vcpu_run(vcpu) && get_ucall(vcpu, NULL) == UCALL_SYNC)
			WRITE_ONCE(vmm->steps, vmm->steps + 1);
		usleep(100);
	}
}

static void expect_running(void)
{
	u64 steps = READ_ONCE(vmm->steps);
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(vmm->steps) < steps + 3 && ms--)
		usleep(1000);
	TEST_ASSERT(vmm->steps >= steps + 3, "The guest does not run");
}

static void start_vmm(const struct who *who)
{
	pid_t pid;

	memset(vmm, 0, sizeof(*vmm));
	pid = fork();
	if (!pid)
		run_vmm(who);
	vmm->pid = pid;
	expect_running();
}

static void end_vmm(void)
{
	kill(vmm->pid, SIGKILL);
	TEST_ASSERT(waitpid(vmm->pid, NULL, 0) == vmm->pid, "waitpid");
}

/* A descriptor of another process, as one of our own. */
static int take_fd(pid_t pid, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	int copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	close(pidfd);
	return copy;
}

/* These return 0 and a tool, or the errno of what was refused. */
static int attach_by(int vm_fd, struct kvmi_tool **tool)
{
	struct kvm_vm vm = { .fd = vm_fd };
	int fds[2], err;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
	err = kvmi_hook_errno(&vm, KVM_INTROSPECTION_ATTACH, fds[0], 0);
	close(fds[0]);
	if (err)
		close(fds[1]);
	else
		*tool = kvmi_adopt(NULL, fds[1]);

	return err;
}

static int attach(pid_t pid, int fd, struct kvmi_tool **tool)
{
	int vm_fd = take_fd(pid, fd);
	int err;

	if (vm_fd < 0)
		return errno;
	err = attach_by(vm_fd, tool);
	close(vm_fd);

	return err;
}

/* The guest stops for the tool. */
static void use(struct kvmi_tool *tool)
{
	struct kvmi_ev ev;

	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_check_version(tool);
}

static int vm_copy;

static int attach_by_copy(void)
{
	struct kvmi_tool *tool;
	int err = attach_by(vm_copy, &tool);

	if (!err)
		use(tool);

	return err;
}

static int attach_and_use(void)
{
	vm_copy = take_fd(vmm->pid, vmm->vm_fd);

	return vm_copy < 0 ? errno : attach_by_copy();
}

/* What a function returns in another process. */
static int run_as(const struct who *who, int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		become(who);
		_exit(fn());
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(WIFEXITED(status), "A process ended with status %x", status);

	return WEXITSTATUS(status);
}

static int attach_to(const struct who *who, const struct who *tool)
{
	int err;

	start_vmm(who);
	err = run_as(tool, attach_and_use);
	expect_running();
	end_vmm();

	return err;
}

/* The permission to attach is the one to debug the VMM with ptrace(). */
TEST(credentials)
{
	const struct who hidden = { USER_IDS, .undumpable = true };
	const struct who dropped = { USER_IDS, .set_ids_only = true };
	const struct who below = { USER_IDS, .new_userns = true };
	const struct {
		const char *name;
		struct who vmm, tool;
		int err;
	} cases[] = {
		{ "same user", user, user, 0 },
		{ "other user", user, other, EPERM },
		{ "other group", user, { USER, USER, USER, OTHER }, EPERM },
		{ "same real user", user, { USER, OTHER, OTHER, USER }, 0 },
		{ "same effective user", user, { OTHER, USER, USER, USER }, EPERM },
		{ "root", user, root, 0 },
		{ "root without CAP_SYS_PTRACE", user,
		  { .caps = ~BIT_ULL(CAP_SYS_PTRACE) }, EPERM },
		{ "other user with CAP_SYS_PTRACE", user,
		  { OTHER, OTHER, OTHER, OTHER, BIT_ULL(CAP_SYS_PTRACE) }, 0 },
		{ "VMM with a capability",
		  { USER_IDS, .caps = BIT_ULL(CAP_NET_ADMIN) }, user, EPERM },
		{ "VMM that can be root again", { USER, USER, 0, USER }, user, EPERM },
		{ "VMM that is not dumpable", hidden, user, EPERM },
		{ "root and VMM that is not dumpable", hidden, root, 0 },
		{ "VMM that was root", dropped, user, EPERM },
		{ "owner of the VMM's user namespace", below, user, 0 },
		{ "root and VMM in a user namespace", below, root, 0 },
		{ "other user and VMM in a user namespace", below, other, EPERM },
		{ "same user in another user namespace", below, below, EPERM },
		{ "same user from below", user, below, EPERM },
	};
	int i, err;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		err = attach_to(&cases[i].vmm, &cases[i].tool);
		TEST_ASSERT(err == cases[i].err, "%s: error %d, expected %d", cases[i].name,
			    err, cases[i].err);
	}
}

/* Who was given the descriptor may attach, whoever that is. */
TEST(passed_on)
{
	start_vmm(&user);
	vm_copy = take_fd(vmm->pid, vmm->vm_fd);
	TEST_ASSERT_EQ(run_as(&other, attach_and_use), EPERM);
	TEST_ASSERT_EQ(run_as(&other, attach_by_copy), 0);
	end_vmm();
}

/* What /proc has is the name of a VM, it does not lead there. */
TEST(no_way_by_proc)
{
	char path[64];
	int i;

	start_vmm(&user);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", vmm->pid,
			 i ? vmm->vcpu_fd : vmm->vm_fd);
		TEST_ASSERT(open(path, O_RDWR) < 0 && errno == ENXIO, "%s: %d", path, errno);
	}
	end_vmm();
}

/* What a VMM needs to run the guest. Anything else kills it. */
static void allow_little(void)
{
	static const int calls[] = { SYS_ioctl, SYS_futex, SYS_write, SYS_clock_nanosleep };
	struct sock_filter code[2 * ARRAY_SIZE(calls) + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };
	struct sock_filter *insn = code + 1;
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		*insn++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
		*insn++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	*insn = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);

	TEST_ASSERT(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		    !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog),
		    "seccomp: %s", strerror(errno));
}

/* KVM does nothing in the VMM's name that its filter could see. */
TEST(filtered_vmm)
{
	const struct who filtered = { USER_IDS, .then = allow_little };

	TEST_ASSERT_EQ(attach_to(&filtered, &user), 0);
}

static void *race(void *arg)
{
	pthread_barrier_t *start = arg;
	int vm_fd = take_fd(vmm->pid, vmm->vm_fd);
	struct kvmi_tool *tool = NULL;
	int err;

	pthread_barrier_wait(start);
	err = attach_by(vm_fd, &tool);
	TEST_ASSERT(!err || err == EEXIST, "Error %d", err);
	close(vm_fd);

	return tool;
}

/* Of two at the same time one gets the VM; it is free at once when that one goes. */
TEST(two_tools)
{
	struct kvmi_tool *tool[2];
	pthread_barrier_t start;
	pthread_t thread;
	int round, won = 0;

	start_vmm(&user);
	pthread_barrier_init(&start, NULL, 2);
	for (round = 0; round < RACE_ROUNDS; round++) {
		TEST_ASSERT(!pthread_create(&thread, NULL, race, &start), "pthread_create");
		tool[0] = race(&start);
		pthread_join(thread, (void **)&tool[1]);
		TEST_ASSERT(!tool[0] != !tool[1], "%s has it", tool[0] ? "Each" : "None");
		won += !!tool[0];
		use(tool[0] ?: tool[1]);
		kvmi_free(tool[0] ?: tool[1]);
	}
	ksft_print_msg("One thread has won %d of %d races\n", won, round);
	end_vmm();
}

static void exec_idle(int sig)
{
	close(STDOUT_FILENO);
	execl("/proc/self/exe", "vmm", IDLE, NULL);
}

static void be_mortal(void)
{
	signal(SIGUSR1, exec_idle);
	signal(SIGTERM, _exit);
}

static const struct who mortal = { .then = be_mortal };

/* The process stays, the VM does not. */
TEST(vmm_executes_something_else)
{
	struct kvmi_tool *tool;
	struct kvmi_ev ev;

	start_vmm(&mortal);
	TEST_ASSERT_EQ(attach(vmm->pid, vmm->vm_fd, &tool), 0);
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kill(vmm->pid, SIGUSR1);
	kvmi_expect_closed(tool);
	TEST_ASSERT_EQ(waitpid(vmm->pid, NULL, WNOHANG), 0);
	TEST_ASSERT_EQ(attach(vmm->pid, vmm->vm_fd, &tool), EBADF);
	end_vmm();
}

/* The VMM is told to end in one of three ways, some time from now. */
static void *end_later(void *arg)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGUSR1 };

	usleep(random() % END_US);
	kill(vmm->pid, signals[(long)arg % 3]);
	return NULL;
}

/* Pause the guest, if it is still there; false if the end comes before the reply. */
static bool pause_until_end(struct kvmi_tool *tool)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_pause_vcpu req;
	} msg = { .hdr.id = KVMI_VM_PAUSE_VCPU, .hdr.size = sizeof(msg.req) };
	u8 rest[KVMI_MSG_SIZE];

	send(tool->fd, &msg, sizeof(msg), MSG_NOSIGNAL);
	return recv(tool->fd, rest, sizeof(rest), MSG_WAITALL) > 0;
}

/* Whenever the VMM ends, nobody hangs. */
TEST(vmm_ends_meanwhile)
{
	int err, refused = 0, unused = 0;
	struct kvmi_tool *tool;
	pthread_t thread;
	long round;

	for (round = 0; round < END_ROUNDS; round++) {
		start_vmm(&mortal);
		TEST_ASSERT(!pthread_create(&thread, NULL, end_later, (void *)round),
			    "pthread_create");
		usleep(random() % END_US);
		err = attach(vmm->pid, vmm->vm_fd, &tool);
		TEST_ASSERT(!err || err == EBADF || err == ESRCH, "Error %d", err);
		if (err) {
			refused++;
		} else {
			unused += !pause_until_end(tool);
			kvmi_free(tool);
		}
		pthread_join(thread, NULL);
		end_vmm();
	}
	ksft_print_msg("%ld VMMs have ended, %d before the tool attached, %d before a reply\n",
		       round, refused, unused);
	TEST_ASSERT(refused && refused < round, "All at the same moment");
}

static int users_of_segment(void)
{
	struct shmid_ds ds;

	TEST_ASSERT(!shmctl(segment, IPC_STAT, &ds), "shmctl: %s", strerror(errno));
	return ds.shm_nattch;
}

/* Not longer than the test may take: if it fails nobody ends this. */
static void hold(int vm_fd)
{
	vmm->held_fd = vm_fd;
	WRITE_ONCE(vmm->holder, getpid());
	alarm(TEST_TIMEOUT_DEFAULT);
	pause();
	_exit(0);
}

static void fork_holder(void)
{
	if (!fork())
		hold(vmm->vm_fd);
}

/* The VM lives as long as somebody has it; the VMM's memory ends with the VMM. */
static void test_holder(void)
{
	int ms = KVMI_TIMEOUT_MS, users;
	struct kvmi_tool *tool;
	char path[64];
	u64 word;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", vmm->pid, vmm->vm_fd);
	while (!READ_ONCE(vmm->holder) && ms--)
		usleep(1000);
	TEST_ASSERT_EQ(attach(vmm->pid, vmm->vm_fd, &tool), 0);
	use(tool);
	users = users_of_segment();
	end_vmm();
	TEST_ASSERT_EQ(users_of_segment(), users - 1);
	kvmi_check_version(tool);
	TEST_ASSERT_EQ(kvmi_read_physical(tool, 0, &word, sizeof(word)), -KVM_ENOENT);
	TEST_ASSERT(!access(path, F_OK), "No %s (is debugfs mounted?)", path);
	kvmi_free(tool);

	TEST_ASSERT_EQ(attach(vmm->holder, vmm->held_fd, &tool), 0);
	kvmi_check_version(tool);
	kill(vmm->holder, SIGKILL);
	kvmi_expect_closed(tool);
	for (ms = KVMI_TIMEOUT_MS; ms && !access(path, F_OK); ms--)
		usleep(1000);
	TEST_ASSERT(ms, "The VM outlives everybody who had it");
}

TEST(child_of_vmm_keeps_vm)
{
	const struct who who = { .then = fork_holder };

	start_vmm(&who);
	test_holder();
}

TEST(tool_keeps_vm)
{
	start_vmm(&root);
	if (!fork())
		hold(take_fd(vmm->pid, vmm->vm_fd));
	test_holder();
}

static void set_yama_scope(char scope)
{
	int fd = open(YAMA_SCOPE, O_WRONLY);

	TEST_ASSERT(write(fd, &scope, 1) == 1, "Cannot set the ptrace scope to %c", scope);
	close(fd);
}

static void declare_tracer(void)
{
	/* And its children: that is the tool. */
	TEST_ASSERT(!prctl(PR_SET_PTRACER, getppid()), "PR_SET_PTRACER: %s", strerror(errno));
}

static int start_and_attach(void)
{
	int err;

	start_vmm(&user);
	become(&user);
	err = attach_and_use();
	end_vmm();

	return err;
}

TEST(yama)
{
	const struct who declares = { USER_IDS, .then = declare_tracer };
	int scope;

	if (access(YAMA_SCOPE, F_OK))
		SKIP(return, "This host does not have Yama");

	for (scope = 0; scope <= 2; scope++) {
		set_yama_scope('0' + scope);
		TEST_ASSERT_EQ(attach_to(&user, &user), scope < 1 ? 0 : EPERM);
		TEST_ASSERT_EQ(attach_to(&declares, &user), scope < 2 ? 0 : EPERM);
		TEST_ASSERT_EQ(run_as(&root, start_and_attach), scope < 2 ? 0 : EPERM);
		TEST_ASSERT_EQ(attach_to(&user, &root), 0);
	}
}

int main(int argc, char *argv[])
{
	int ret, yama = open(YAMA_SCOPE, O_RDONLY);
	char scope = '0';

	if (argc == 2 && !strcmp(argv[1], IDLE))
		return pause();

	KVMI_REQUIRE();
	TEST_REQUIRE(!geteuid());
	TEST_REQUIRE(yama < 0 || (read(yama, &scope, 1) == 1 && scope < '3'));
	segment = shmget(IPC_PRIVATE, sizeof(*vmm), 0600);
	vmm = shmat(segment, NULL, 0);
	TEST_ASSERT(vmm != (void *)-1, "shmat: %s", strerror(errno));
	shmctl(segment, IPC_RMID, NULL);

	if (yama >= 0)
		set_yama_scope('0');
	ret = test_harness_run(argc, argv);
	if (yama >= 0)
		set_yama_scope(scope);

	return ret;
}
