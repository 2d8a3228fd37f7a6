/* Fails chosen calls of a process into the system, as injected_errors.py asks: loaded with LD_PRELOAD.
 *
 * Calls are counted that touch a file below one folder (a path, or a descriptor opened by such a path), connect, or start a
 * thread. Set by the environment before main, or by inject() of the process itself. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DESCRIPTORS 65536

static char under[4096], kinds[32];
static int log_file = -1, number;
static long at, every, calls, injected;
static unsigned char counted[DESCRIPTORS];

/* Begin to count anew: fail call `fail_at`, or each `fail_every`-th; 0 for neither. */
void inject(const char *folder, const char *letters, long fail_at, long fail_every, int error, const char *log) {
    snprintf(under, sizeof under, "%s", folder);
    snprintf(kinds, sizeof kinds, "%s", letters);
    number = error;
    if (log_file >= 0) syscall(SYS_close, log_file);
    log_file = *log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&injected, 0, __ATOMIC_SEQ_CST);
    at = fail_at, every = fail_every;
}

long inject_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

long inject_injected(void) { return __atomic_load_n(&injected, __ATOMIC_SEQ_CST); }

static const char *setting(const char *name) { const char *value = getenv(name); return value ? value : ""; }

__attribute__((constructor)) static void begin(void) {
    const char *n = setting("INJECT_ERRNO");
    if (*n)
        inject(setting("INJECT_UNDER"), setting("INJECT_KINDS"), atol(setting("INJECT_AT")), atol(setting("INJECT_EVERY")),
               atoi(n), setting("INJECT_LOG"));
}

/* Count one call; return 1, with errno set, if it is to fail. */
static int fails(char kind, const char *what) {
    if (!*kinds || !strchr(kinds, kind)) return 0;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!((at && n == at) || (every && n % every == 0))) return 0;
    __atomic_add_fetch(&injected, 1, __ATOMIC_SEQ_CST);
    if (log_file >= 0) {
        char line[4200];
        int length = snprintf(line, sizeof line, "%ld %c %d %s\n", n, kind, number, what);
        syscall(SYS_write, log_file, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
    }
    errno = number;
    return 1;
}

static int below(const char *path) {
    size_t length = strlen(under);
    return length && path && strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int ours(int fd) { return fd >= 0 && fd < DESCRIPTORS && counted[fd]; }

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < DESCRIPTORS) counted[fd] = below(path);
    return fd;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define PATH_CALL(kind, path) if (below(path) && fails(kind, path)) return -1
#define FD_CALL(kind, fd, what) if (ours(fd) && fails(kind, what)) return -1
#define MODE mode_t mode = 0; if (flags & (O_CREAT | __O_TMPFILE)) { va_list v; va_start(v, flags); mode = va_arg(v, mode_t); va_end(v); }

#define OPEN(name) int name(const char *path, int flags, ...) { \
    REAL(name); MODE PATH_CALL('o', path); return opened(real(path, flags, mode), path); }
#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { \
    REAL(name); MODE PATH_CALL('o', path); return opened(real(folder, path, flags, mode), path); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

DIR *opendir(const char *path) {
    REAL(opendir);
    if (below(path) && fails('o', path)) return NULL;
    return real(path);
}

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < DESCRIPTORS) counted[fd] = 0;
    return real(fd);
}

ssize_t read(int fd, void *to, size_t n) { REAL(read); FD_CALL('r', fd, "read"); return real(fd, to, n); }
ssize_t pread(int fd, void *to, size_t n, off_t o) { REAL(pread); FD_CALL('r', fd, "pread"); return real(fd, to, n, o); }
ssize_t pread64(int fd, void *to, size_t n, off64_t o) { REAL(pread64); FD_CALL('r', fd, "pread"); return real(fd, to, n, o); }
ssize_t write(int fd, const void *from, size_t n) { REAL(write); FD_CALL('w', fd, "write"); return real(fd, from, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(pwrite); FD_CALL('w', fd, "pwrite"); return real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(pwrite64); FD_CALL('w', fd, "pwrite"); return real(fd, b, n, o); }
ssize_t sendfile(int to, int from, off_t *o, size_t n) { REAL(sendfile); FD_CALL('w', to, "sendfile"); return real(to, from, o, n); }
ssize_t sendfile64(int to, int from, off64_t *o, size_t n) { REAL(sendfile64); FD_CALL('w', to, "sendfile"); return real(to, from, o, n); }
int fsync(int fd) { REAL(fsync); FD_CALL('s', fd, "fsync"); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); FD_CALL('s', fd, "fdatasync"); return real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); FD_CALL('w', fd, "ftruncate"); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); FD_CALL('w', fd, "ftruncate"); return real(fd, n); }
int rename(const char *a, const char *b) { REAL(rename); PATH_CALL('n', a); return real(a, b); }
int renameat(int d, const char *a, int e, const char *b) { REAL(renameat); PATH_CALL('n', a); return real(d, a, e, b); }
int unlink(const char *path) { REAL(unlink); PATH_CALL('u', path); return real(path); }
int unlinkat(int d, const char *path, int f) { REAL(unlinkat); PATH_CALL('u', path); return real(d, path, f); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); PATH_CALL('m', path); return real(path, mode); }

#define STAT(name, kind) int name(const char *path, struct kind *to) { REAL(name); PATH_CALL('i', path); return real(path, to); }
STAT(stat, stat) STAT(stat64, stat64) STAT(lstat, stat) STAT(lstat64, stat64)

int fstatat(int d, const char *path, struct stat *to, int f) { REAL(fstatat); PATH_CALL('i', path); return real(d, path, to, f); }
int fstatat64(int d, const char *path, struct stat64 *to, int f) { REAL(fstatat64); PATH_CALL('i', path); return real(d, path, to, f); }

int connect(int fd, const struct sockaddr *to, socklen_t n) {
    REAL(connect);
    if (fails('c', "connect")) return -1;
    return real(fd, to, n);
}

int pthread_create(pthread_t *to, const pthread_attr_t *how, void *(*run)(void *), void *with) {
    REAL(pthread_create);
    return fails('t', "pthread_create") ? EAGAIN : real(to, how, run, with);
}
