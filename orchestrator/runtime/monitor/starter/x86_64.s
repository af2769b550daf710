# The starter (x86_64): makes the first processes of containers and execs, which then carry out a flat list of system calls.
#
#     as -o starter.o x86_64.s && objcopy -O binary starter.o starter && base64 starter       (the whole ELF file is in here)
#
# What comes and what it means: docs/monitor-protocol.md, "The starter". Descriptors that it is executed with: 3 the socket,
# 4 the host's mount namespace, 5 the monitor's, 6 the null device, 7 the monitor's pid namespace, 8 the page for pids.
# Sources: elf(5), syscall(2), clone(2), recvmsg(2), cmsg(3), close_range(2), setns(2).
        .intel_syntax noprefix
        .equ BASE, 0x400000
        .equ AREA, 0x10000000                               # our memory: slots, structures, the packet
        .equ AREA_SIZE, 0x12000
        .equ PAGE, 0x20000000                               # shared with the monitor: two pids for each start
        .equ CLONE, 0x400                                   # struct clone_args
        .equ MSG, 0x480                                     # struct msghdr
        .equ IOV, 0x4c0                                     # struct iovec
        .equ CTL, 0x500                                     # the control message
        .equ CTL_SIZE, 0x110                                # 64 descriptors
        .equ PACKET, 0x1000
        .equ PACKET_SIZE, 0x10000
        .equ HEAD, 80                                       # of a packet
        .equ STATUS, 0 * 8                                  # slots: descriptors and results
        .equ CGROUP, 3 * 8
        .equ WITHIN, 4 * 8
        .equ TELL, 5 * 8
        .equ HOST, 6 * 8
        .equ OWN, 7 * 8
        .equ NULL, 8 * 8
        .equ NEWPID, 0x20000000
        .equ CANNOT, -6                                     # a report: it is to be done the other way

header: .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0               # ELF, 64 bits, little endian: elf(5)
        .quad 0
        .short 2, 62                                        # ET_EXEC, EM_X86_64
        .long 1
        .quad BASE + start - header
        .quad segments - header
        .quad 0
        .long 0
        .short 64, 56, 2, 0, 0, 0
segments:
        .long 1, 5                                          # PT_LOAD, read and execute
        .quad 0, BASE, BASE, end - header, end - header, 0x10000
        .long 0x6474e551, 6                                 # PT_GNU_STACK, not executable
        .quad 0, 0, 0, 0, 0, 16
name:   .asciz "pystack-start"

start:  mov     eax, 9                                      # mmap(AREA, its size, read and write, private anonymous fixed)
        mov     edi, AREA
        mov     esi, AREA_SIZE
        mov     edx, 3
        mov     r10d, 0x32
        mov     r8, -1
        xor     r9d, r9d
        syscall
        test    rax, rax
        js      leave
        mov     r12, rax                                    # r12: AREA, for good
        mov     eax, 9                                      # mmap(PAGE, 4096, read and write, shared fixed, 8, 0)
        mov     edi, PAGE
        mov     esi, 4096
        mov     edx, 3
        mov     r10d, 0x11
        mov     r8d, 8
        xor     r9d, r9d
        syscall
        test    rax, rax
        js      leave
        mov     eax, 157                                    # prctl(PR_SET_NAME)
        mov     edi, 15
        lea     rsi, [rip + name]
        syscall
        mov     eax, 157                                    # prctl(PR_SET_DUMPABLE, 0): nobody looks into us
        mov     edi, 4
        xor     esi, esi
        syscall
        mov     eax, 157                                    # prctl(PR_SET_PDEATHSIG, SIGKILL): what is still in the socket
        mov     edi, 1                                      # when the monitor is killed is nobody's any more
        mov     esi, 9
        syscall

next:   mov     eax, 436                                    # close_range(8, all, 0): what the last one brought
        mov     edi, 8
        mov     esi, -1
        xor     edx, edx
        syscall
        lea     rax, [r12 + IOV]
        lea     rcx, [r12 + PACKET]
        mov     [rax], rcx
        mov     qword ptr [rax + 8], PACKET_SIZE
        mov     [r12 + MSG + 16], rax
        mov     qword ptr [r12 + MSG + 24], 1
        lea     rcx, [r12 + CTL]
        mov     qword ptr [rcx], 0
        mov     [r12 + MSG + 32], rcx
        mov     qword ptr [r12 + MSG + 40], CTL_SIZE
        mov     qword ptr [r12 + MSG + 48], 0
        mov     eax, 47                                     # recvmsg(3, message, MSG_CMSG_CLOEXEC)
        mov     edi, 3
        lea     rsi, [r12 + MSG]
        mov     edx, 0x40000000
        syscall
        cmp     rax, -4                                     # EINTR
        je      next
        cmp     rax, HEAD                                   # the monitor has closed its end, or is not what we know
        jl      leave
        lea     r13, [r12 + rax + PACKET]                   # r13: the end of the program
        mov     rdi, r12
        mov     ecx, 128
        mov     rax, -1
        rep stosq
        mov     qword ptr [r12 + HOST], 4
        mov     qword ptr [r12 + OWN], 5
        mov     qword ptr [r12 + NULL], 6
        mov     eax, [r12 + PACKET]                         # the number of the start
        shl     eax, 3
        add     eax, PAGE
        mov     [r12 + CLONE + 24], rax                     # parent_tid
        add     eax, 4
        mov     [r12 + TELL], rax
        mov     ecx, [r12 + PACKET + 4]                     # how many descriptors
        lea     rdx, [rcx * 4 + 16]
        cmp     rdx, [r12 + CTL]
        jne     leave                                       # we are out of descriptors
        xor     esi, esi
fill:   cmp     esi, ecx
        je      filled
        movzx   eax, byte ptr [r12 + rsi + PACKET + 16]
        mov     edx, [r12 + rsi * 4 + CTL + 16]
        mov     [r12 + rax * 8], rdx
        inc     esi
        jmp     fill
filled: mov     edx, 0x108000                               # CLONE_PARENT | CLONE_PARENT_SETTID
        xor     ecx, ecx
        mov     rax, [r12 + CGROUP]
        test    rax, rax
        js      group
        bts     rdx, 33                                     # CLONE_INTO_CGROUP
        mov     rcx, rax
group:  mov     [r12 + CLONE], rdx
        mov     [r12 + CLONE + 80], rcx
        mov     rdi, [r12 + WITHIN]
        test    rdi, rdi
        js      divide
        mov     esi, NEWPID
        mov     eax, 308                                    # setns(within, CLONE_NEWPID): of our children
        syscall
        test    rax, rax
        js      cannot
divide: mov     eax, 435                                    # clone3
        lea     rdi, [r12 + CLONE]
        mov     esi, 88
        syscall
        test    rax, rax
        jz      child
        mov     r14, rax
        mov     edi, 7
        cmp     qword ptr [r12 + WITHIN], 0
        jl      made
        mov     esi, NEWPID
        mov     eax, 308                                    # setns: back, or the next one would be in there too
        syscall
        test    rax, rax
        js      leave
made:   mov     rax, r14
        test    rax, rax
        jns     next
cannot: call    report
        jmp     next

child:  mov     eax, 292                                    # dup3(status, 3, O_CLOEXEC): instead of the socket, which a
        mov     rdi, [r12 + STATUS]                         # process that waits must not keep; and now, for a filter of
        mov     esi, 3                                      # system calls may end whoever does it later
        mov     edx, 0x80000
        syscall
        test    rax, rax
        js      broken
        mov     [r12 + STATUS], rax
        mov     eax, 3                                      # close(status)
        syscall
        sub     rsp, 64
        lea     rbx, [r12 + PACKET + HEAD]                  # rbx: the operation
step:   xor     eax, eax
        cmp     rbx, r13
        jae     broken
        movzx   r14d, word ptr [rbx + 2]                    # two bits for each argument: as it is, a slot's, or a place here
        xor     ecx, ecx
load:   mov     rax, [rbx + rcx * 8 + 16]
        mov     edx, r14d
        shr     r14d, 2
        and     edx, 3
        jz      loaded
        dec     edx
        jz      slot
        add     rax, rbx
        jmp     loaded
slot:   mov     rax, [r12 + rax * 8]
loaded: mov     [rsp + rcx * 8], rax
        inc     ecx
        cmp     ecx, 6
        jne     load
        mov     rdi, [rsp]
        mov     rsi, [rsp + 8]
        mov     rdx, [rsp + 16]
        mov     r10, [rsp + 24]
        mov     r8, [rsp + 32]
        mov     r9, [rsp + 40]
        mov     eax, [rbx + 8]
        test    eax, eax
        js      own
        syscall
        test    rax, rax
        js      error
result: movzx   ecx, byte ptr [rbx + 7]
        cmp     cl, 0xff
        je      kept
        mov     [r12 + rcx * 8], rax
kept:   movzx   ecx, byte ptr [rbx + 4]
        cmp     cl, 3
        jb      good
        ja      parted
        test    rax, rax                                    # 3: a gate that was closed
        jz      quit
        jmp     good
parted: test    rax, rax                                    # 4: the parent of the two
        jz      good
        xor     edi, edi
        jmp     exit
good:   movzx   ecx, byte ptr [rbx + 6]
pass:   movzx   edx, word ptr [rbx]
        add     rbx, rdx
        sub     ecx, 1
        jnc     pass
        jmp     step

error:  movzx   ecx, byte ptr [rbx + 4]
        dec     ecx
        jz      absent                                      # 1: what is not there is passed over
        dec     ecx
        jz      over                                        # 2: so is any error
        sub     ecx, 3
        jz      missing                                     # 5: so is what has no name
broken: call    report
quit:   mov     edi, 127
exit:   mov     eax, 231                                    # exit_group
        syscall
        hlt                                                 # a filter refuses even that
absent: cmp     rax, -20                                    # ENOTDIR
        je      over
missing:
        cmp     rax, -2                                     # ENOENT
        jne     broken
over:   movzx   ecx, byte ptr [rbx + 5]
        jmp     pass

own:    inc     eax
        jz      store                                       # -1
        inc     eax
        jz      places                                      # -2
        movzx   eax, byte ptr [rdi]                         # -3: the byte at the first argument is the second
        sub     eax, esi
        jz      result
        mov     rax, -2
        jmp     error
store:  mov     [rdi], rsi                                  # the second argument at the first
        xor     eax, eax
        jmp     result
places: add     [rdi], rbx                                  # as many places as the second says, from the first on
        add     rdi, 8
        dec     esi
        jnz     places
        xor     eax, eax
        jmp     result

leave:  mov     edi, 1
        jmp     exit

report: neg     eax                                         # CANNOT and an errno into the status pipe
        push    rax
        mov     dword ptr [rsp + 4], eax
        mov     dword ptr [rsp], CANNOT
        mov     eax, 1
        mov     rdi, [r12 + STATUS]
        mov     rsi, rsp
        mov     edx, 8
        syscall
        pop     rax
        ret
end:
