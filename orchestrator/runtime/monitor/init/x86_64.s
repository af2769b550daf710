# The init of a container (x86_64): executed by the step `init` with the pid of its only child as argv[1], and by the step
# `mind` with a + before it.
#
#     as -o init.o x86_64.s && objcopy -O binary init.o init && base64 init       (the whole ELF file is in here)
#
# It reaps everything, passes signals on to the child, and ends as the child ends (128 + N after signal N). It has no memory
# but its stack, and opens nothing. After a +, it writes the child's wait status to descriptor 0 when the child ends, and ends
# when it has no more children. System calls: syscall(2); struct siginfo: sigaction(2).
        .intel_syntax noprefix
        .equ BASE, 0x400000
        .equ WNOHANG, 1
        .equ SIGCHLD, 17
        .equ SI_KERNEL, 0x80

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
name:   .asciz "pystack-init"

start:  mov     rbx, [rsp + 16]                             # argv[1], wiped while it is read: ps shows our name alone
        xor     r12d, r12d                                  # r12: the child, 0 once it has ended
        xor     r14d, r14d                                  # r14: whether there was a +
digit:  movzx   eax, byte ptr [rbx]
        test    al, al
        jz      named
        mov     byte ptr [rbx], 0
        inc     rbx
        sub     eax, '0'
        js      plus
        imul    r12d, r12d, 10
        add     r12d, eax
        jmp     digit
plus:   inc     r14d
        jmp     digit

named:  sub     rsp, 160                                    # siginfo at rsp, the set of all signals at rsp + 128, a status at + 136
        mov     eax, 157                                    # prctl(PR_SET_NAME)
        mov     edi, 15
        lea     rsi, [rip + name]
        syscall
        mov     qword ptr [rsp + 128], -1
        mov     eax, 14                                     # rt_sigprocmask(SIG_BLOCK, all, 0, 8)
        xor     edi, edi
        lea     rsi, [rsp + 128]
        xor     edx, edx
        mov     r10d, 8
        syscall

wait:   mov     eax, 128                                    # rt_sigtimedwait(all, info, 0, 8)
        lea     rdi, [rsp + 128]
        mov     rsi, rsp
        xor     edx, edx
        mov     r10d, 8
        syscall
        cmp     rax, -4                                     # EINTR
        je      wait
        test    rax, rax
        js      broken
        cmp     eax, SIGCHLD
        je      reap
        cmp     dword ptr [rsp + 8], SI_KERNEL
        jne     pass
        mov     ecx, eax                                    # SIGINT, SIGQUIT, SIGTSTP, SIGWINCH of a terminal: the child is in
        mov     edx, 1                                      # the same foreground group, and has them already
        shl     rdx, cl
        test    edx, 1 << 2 | 1 << 3 | 1 << 20 | 1 << 28
        jnz     wait
pass:   test    r12d, r12d
        jz      wait
        mov     esi, eax
        mov     edi, r12d
        mov     eax, 62                                     # kill(child, signal)
        syscall
        jmp     wait

reap:   mov     edi, -1
        lea     rsi, [rsp + 136]
        mov     edx, WNOHANG
        xor     r10d, r10d
        mov     eax, 61                                     # wait4(-1, status, WNOHANG, 0)
        syscall
        test    eax, eax
        jz      wait
        js      none
        cmp     eax, r12d
        jne     reap
        xor     r12d, r12d
        mov     eax, [rsp + 136]
        mov     r13d, eax                                   # r13: how we shall end
        and     r13d, 0x7f
        jz      exited
        add     r13d, 128
        jmp     ended
exited: movzx   eax, ah
        mov     r13d, eax
ended:  test    r14d, r14d
        jz      leave
        mov     eax, 1                                      # write(0, status, 4)
        xor     edi, edi
        lea     rsi, [rsp + 136]
        mov     edx, 4
        syscall
        jmp     reap
none:   test    r12d, r12d                                  # ECHILD
        jz      leave
broken: mov     r13d, 127
leave:  mov     edi, r13d
        mov     eax, 231                                    # exit_group
        syscall
end:
