// The init of a container (aarch64): as x86_64.s, which says what it does.
//
//     aarch64-linux-gnu-as -o init.o aarch64.s && aarch64-linux-gnu-objcopy -O binary init.o init && base64 init
        .equ BASE, 0x400000
        .equ WNOHANG, 1
        .equ SIGCHLD, 17
        .equ SI_KERNEL, 0x80

header: .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0               // ELF, 64 bits, little endian: elf(5)
        .quad 0
        .short 2, 183                                       // ET_EXEC, EM_AARCH64
        .long 1
        .quad BASE + start - header
        .quad segments - header
        .quad 0
        .long 0
        .short 64, 56, 2, 0, 0, 0
segments:
        .long 1, 5                                          // PT_LOAD, read and execute
        .quad 0, BASE, BASE, end - header, end - header, 0x10000
        .long 0x6474e551, 6                                 // PT_GNU_STACK, not executable
        .quad 0, 0, 0, 0, 0, 16
name:   .asciz "pystack-init"
        .balign 4

start:  ldr     x20, [sp, 16]                               // argv[1], wiped while it is read
        mov     w19, 0                                      // w19: the child, 0 once it has ended
        mov     w22, 0                                      // w22: whether there was a +
        mov     w21, 10
digit:  ldrb    w0, [x20]
        cbz     w0, named
        strb    wzr, [x20], 1
        subs    w0, w0, '0'
        b.mi    plus
        madd    w19, w19, w21, w0
        b       digit
plus:   mov     w22, 1
        b       digit

named:  sub     sp, sp, 160                                 // siginfo at sp, the set of all signals at + 128, a status at + 136
        mov     x8, 167                                     // prctl(PR_SET_NAME)
        mov     x0, 15
        adr     x1, name
        svc     0
        mov     x0, -1
        str     x0, [sp, 128]
        mov     x8, 135                                     // rt_sigprocmask(SIG_BLOCK, all, 0, 8)
        mov     x0, 0
        add     x1, sp, 128
        mov     x2, 0
        mov     x3, 8
        svc     0

wait:   mov     x8, 137                                     // rt_sigtimedwait(all, info, 0, 8)
        add     x0, sp, 128
        mov     x1, sp
        mov     x2, 0
        mov     x3, 8
        svc     0
        cmn     x0, 4                                       // EINTR
        b.eq    wait
        tbnz    x0, 63, broken
        cmp     w0, SIGCHLD
        b.eq    reap
        ldr     w1, [sp, 8]
        cmp     w1, SI_KERNEL
        b.ne    pass
        mov     w1, 1                                       // SIGINT, SIGQUIT, SIGTSTP, SIGWINCH of a terminal: the child is in
        lsl     x1, x1, x0                                  // the same foreground group, and has them already
        ldr     w2, keys
        tst     x1, x2
        b.ne    wait
pass:   cbz     w19, wait
        mov     w1, w0
        mov     w0, w19
        mov     x8, 129                                     // kill(child, signal)
        svc     0
        b       wait

reap:   mov     w0, -1
        add     x1, sp, 136
        mov     x2, WNOHANG
        mov     x3, 0
        mov     x8, 260                                     // wait4(-1, status, WNOHANG, 0)
        svc     0
        cbz     w0, wait
        tbnz    w0, 31, none
        cmp     w0, w19
        b.ne    reap
        mov     w19, 0
        ldr     w1, [sp, 136]
        ands    w23, w1, 0x7f                               // w23: how we shall end
        b.eq    exited
        add     w23, w23, 128
        b       ended
exited: ubfx    w23, w1, 8, 8
ended:  cbz     w22, leave
        mov     x0, 0                                       // write(0, status, 4)
        add     x1, sp, 136
        mov     x2, 4
        mov     x8, 64
        svc     0
        b       reap
none:   cbz     w19, leave                                  // ECHILD
broken: mov     w23, 127
leave:  mov     w0, w23
        mov     x8, 94                                      // exit_group
        svc     0
keys:   .long   1 << 2 | 1 << 3 | 1 << 20 | 1 << 28
end:
