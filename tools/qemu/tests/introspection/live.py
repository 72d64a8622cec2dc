#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests of QEMU with KVM introspection and a guest that runs. They need a KVM
# that has it, and permission to use it.
#
#   live.py QEMU KERNEL INITRD [TEST...]
#
# KERNEL and INITRD are what the guest boots: it should print lines all the time
# on its first serial port, and have a shell on the second one.

import os
import signal
import socket
import struct
import sys
import time

import test
from test import start_time, wait_for

KERNEL = INITRD = None
test.LIMIT = 120                # it may all be emulated

VM_EVENT, VCPU_EVENT = 0, 1
GET_VERSION, VM_CONTROL_EVENTS, VM_READ_PHYSICAL, VM_PAUSE_VCPU = 2, 10, 12, 16
VM_WRITE_PHYSICAL = 14
EVENT_PAUSE = 1


class Tool(test.Tool):
    def message(self):
        number, size, seq = struct.unpack('=HHI', self.read(8))
        return number, seq, self.read(size)

    # The reply's error and data; events in between are kept.
    def do(self, command, data=b''):
        self.conn.sendall(struct.pack('=HHI', command, len(data), 77) + data)
        while True:
            number, seq, reply = self.message()
            if number == command:
                return struct.unpack_from('=i', reply)[0], reply[8:]
            self.events.append((number, seq, reply))

    def event(self):
        return self.events.pop(0) if self.events else self.message()

    # Have vCPU 0 wait for this tool.
    def park(self):
        assert self.do(VM_PAUSE_VCPU, struct.pack('=HBBI', 0, 1, 0, 0))[0] == 0
        number, self.seq, data = self.event()
        assert number == VCPU_EVENT and data[0] == EVENT_PAUSE, data

    def unpark(self):
        self.conn.sendall(struct.pack('=HHIHHIBBHI', VCPU_EVENT, 16, self.seq,
                                      0, 0, 0, 0, EVENT_PAUSE, 0, 0))

    # That it was asked to go, whatever else it was told.
    def asked_to_go(self):
        while self.event()[0] != VM_EVENT:
            pass
        return True

    def closed(self):
        try:
            while self.conn.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True


class Live(test.Base):
    append = ''                 # to the guest's command line

    def setUp(self):
        super().setUp()
        self.tool.__class__ = Tool
        self.tool.events = []

    def command(self, *args):
        return [test.QEMU, '-nodefaults', '-display', 'none', '-accel', 'kvm',
                '-L', '/usr/share/qemu', '-L', '/usr/share/seabios',
                '-machine', 'pc', '-cpu', 'qemu64', '-smp', '2', '-m', '96',
                '-uuid', test.UUID, '-name', 'guest', '-kernel', KERNEL,
                '-initrd', INITRD, '-append',
                'console=ttyS0 loglevel=4 panic=-1 watchdog_thresh=60 '
                'rcupdate.rcu_cpu_stall_timeout=300' + self.append,
                '-serial', 'file:' + self.path('console'),
                '-serial', 'unix:%s,server=on,wait=off' % self.path('shell'),
                *args]

    def env(self, name):
        return dict(os.environ)

    def printed(self):
        return os.path.getsize(self.path('console'))

    # That the guest executes something.
    def running(self):
        size = self.printed()
        wait_for(lambda: self.printed() > size, 'the guest prints')

    def booted(self):
        wait_for(lambda: os.path.exists(self.path('console')), 'console')
        self.running()

    def hooked(self):
        hello = super().hooked()
        self.tool.events = []
        self.assertEqual(self.tool.do(GET_VERSION)[0], 0)
        self.assertEqual(self.tool.do(VM_CONTROL_EVENTS, struct.pack(
            '=HBBI', 0, 1, 0, 0)), (0, b''))
        return hello

    def parked(self, *args, options=''):
        self.qemu(*args, options=options)
        hello = self.hooked()
        self.booted()
        self.tool.park()
        return hello

    # A tool that does as it should.
    def goes(self):
        self.assertTrue(self.tool.asked_to_go())
        self.tool.unpark()
        self.tool.close()

    def status(self):
        return self.qmp.do('query-status')['status']

    def test_tool(self):
        self.parked()
        size = self.printed()
        error, data = self.tool.do(VM_READ_PHYSICAL, struct.pack(
            '=QHHI', 0xffff0, 16, 0, 0))
        self.assertEqual((error, len(data)), (0, 16))
        self.tool.unpark()
        wait_for(lambda: self.printed() > size, 'the guest prints')

    def test_allow_list(self):
        self.qemu(options=',command=vm-control-events,event=unhook')
        self.hooked()
        self.assertEqual(self.tool.do(VM_READ_PHYSICAL, struct.pack(
            '=QHHI', 0, 16, 0, 0))[0], -1)
        self.assertEqual(self.tool.do(VM_PAUSE_VCPU, struct.pack(
            '=HBBI', 0, 0, 0, 0))[0], -1)

    def test_unknown_to_kvm(self):
        process = self.start(*self.chardev(), '-object',
                             'introspection,id=kvmi,chardev=tool,command=999')
        self.assertEqual(process.wait(test.LIMIT), 1)
        self.assertIn('KVM does not know', self.said())

    def test_stop(self):
        self.parked()
        self.qmp.send('stop')
        self.goes()
        self.qmp.reply()
        self.assertEqual(self.status(), 'paused')
        size = self.printed()
        time.sleep(1)
        self.assertEqual(self.printed(), size)
        self.qmp.do('cont')
        self.hooked()
        self.running()

    def test_stop_silent(self):
        self.parked(options=',unhook-timeout=1')
        self.qmp.do('stop')
        self.assertTrue(self.tool.closed())
        self.qmp.do('cont')
        self.running()

    def test_reset(self):
        hello = self.parked()
        time.sleep(1.1)
        self.qmp.do('system_reset')
        self.assertTrue(self.tool.closed())
        self.qmp.event('RESET')
        self.assertGreater(start_time(self.hooked()), start_time(hello))
        self.running()

    # Has the guest's shell execute a command, to its end if it has one.
    def tell_guest(self, command, ends=False):
        shell = socket.socket(socket.AF_UNIX)
        shell.settimeout(test.LIMIT)
        shell.connect(self.path('shell'))
        self.addCleanup(shell.close)
        said = b''
        while b'ready' not in said:
            said += shell.recv(100)
        shell.sendall(command.encode() + b'\n')
        while ends and b'=> 0' not in said:
            said += shell.recv(100)

    def test_reset_by_guest(self):
        self.qemu()
        self.hooked()
        self.tell_guest('echo b >/proc/sysrq-trigger')
        self.qmp.event('RESET')
        self.assertTrue(self.tool.closed())
        self.hooked()

    # One vCPU waits for the tool when the other one has a triple fault.
    def test_triple_fault(self):
        self.append = ' reboot=t,f'
        self.qemu()
        self.hooked()
        # Processor 0 must not hold a lock when it has to wait: what prints is
        # stopped before that. Processor 1 does not sleep, which may need the other.
        self.tell_guest("taskset -c 1 sh -c 'read -r now rest </proc/uptime; "
                        "end=$((${now%.*} + 10)); >/tmp/there; "
                        "while [ ${now%.*} -lt $end ]; do "
                        "read -r now rest </proc/uptime; done; "
                        "echo b >/proc/sysrq-trigger' & kill -STOP $counters; "
                        "until [ -e /tmp/there ]; do usleep 10000; done", ends=True)
        printed = self.printed()
        time.sleep(1)
        self.assertEqual(self.printed(), printed)
        self.tool.park()
        self.qmp.event('RESET', reason='guest-reset')
        self.assertTrue(self.tool.closed())
        self.hooked()
        self.running()

    def test_quit(self):
        self.parked()
        self.qmp.do('quit')
        self.ended()
        self.assertTrue(self.tool.closed())

    def test_sigterm(self):
        self.parked()
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def test_sigterm_while_waiting(self):
        self.parked()
        self.qmp.send('stop')
        self.assertTrue(self.tool.asked_to_go())
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def test_kill(self):
        self.parked()
        self.process.kill()
        self.ended(-signal.SIGKILL)
        self.assertTrue(self.tool.closed())

    def test_tool_dies(self):
        self.parked()
        self.tool.close()
        self.running()
        self.hooked()

    def test_object_del(self):
        self.parked(options=',unhook-timeout=1')
        self.qmp.do('object-del', id='kvmi')
        self.running()
        self.qmp.do('object-add', qom_type='introspection', id='kvmi',
                    chardev='tool')
        self.hooked()

    def test_deadline(self):
        self.parked(options=',reply-deadline=500')
        self.running()
        self.assertEqual(self.info()['state'], 'hooked')

    def test_again_and_again(self):
        self.qemu()
        for _ in range(30):
            self.hooked()
            self.tool.park()
            self.tool.close()
        self.running()

    def test_yank(self):
        self.parked()
        self.qmp.do('yank', instances=[{'type': 'chardev', 'id': 'tool'}])
        self.running()
        self.hooked()

    def test_savevm(self):
        hello = self.parked(*self.disk())
        self.qmp.send('human-monitor-command', command_line='savevm one')
        self.goes()
        self.assertEqual(self.qmp.reply(), '')
        self.hooked()
        self.running()
        self.tool.park()
        self.assertEqual(self.qmp.do('human-monitor-command',
                                     command_line='loadvm one'), '')
        self.assertTrue(self.tool.closed())
        self.assertEqual(start_time(self.hooked()), start_time(hello))
        self.running()

    def gdb(self):
        gdb = socket.socket(socket.AF_UNIX)
        gdb.settimeout(test.LIMIT)
        gdb.connect(self.path('gdb'))
        self.addCleanup(gdb.close)
        return gdb

    # As a window does: nobody asks the gate, and nobody waits.
    def test_pause_by_others(self):
        self.parked('-gdb', 'unix:%s,server=on,wait=off' % self.path('gdb'))
        self.gdb()
        wait_for(lambda: self.status() == 'paused', 'paused')
        self.assertEqual(self.info()['state'], 'hooked')
        self.assertEqual(self.tool.do(GET_VERSION)[0], 0)
        self.qmp.do('cont')
        self.tool.unpark()
        self.running()

    # What cannot wait is refused rather than done at the wrong moment.
    def test_savevm_by_gdb(self):
        self.parked('-gdb', 'unix:%s,server=on,wait=off' % self.path('gdb'),
                    *self.disk())
        gdb = self.gdb()
        wait_for(lambda: self.status() == 'paused', 'paused')
        packet = b'qRcmd,' + b'savevm one'.hex().encode()
        gdb.sendall(b'+$%s#%02x' % (packet, sum(packet) & 0xff))
        # What it is told comes in packets of hexadecimal digits.
        said = b''
        while b'cannot be saved'.hex().encode() not in said:
            said += gdb.recv(4096)
        self.assertEqual(self.qmp.do('human-monitor-command',
                                     command_line='info snapshots').strip(),
                         'There is no snapshot available.')

    def migrated(self):
        return wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                        'completed', 'migration')

    def test_migrate(self):
        hello = self.parked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.goes()
        self.migrated()
        self.qmp.do('quit')
        self.ended()
        self.qemu('-incoming', 'file:' + self.path('state'), name='incoming')
        self.assertEqual(start_time(self.hooked()), start_time(hello))
        self.running()

    def test_migrate_silent(self):
        self.parked(options=',unhook-timeout=1')
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.migrated()
        self.assertTrue(self.tool.closed())

    def test_migrate_cancel(self):
        self.parked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        self.qmp.do('migrate_cancel')
        self.tool.unpark()
        self.tool.close()
        self.hooked()
        self.running()


def main():
    global KERNEL, INITRD
    if len(sys.argv) < 4:
        sys.exit('usage: live.py QEMU KERNEL INITRD [TEST...]')
    test.QEMU, KERNEL, INITRD = map(os.path.realpath, sys.argv[1:4])
    test.run(*sys.argv[4:])


if __name__ == '__main__':
    main()
