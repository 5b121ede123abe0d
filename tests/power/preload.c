// Notes how far each file is on disk, for a test that takes the power away (see src/lib.rs).
//
// Loaded before the C library (LD_PRELOAD), it sees each call that makes something durable or changes a
// name below POWER_LOSS_DIR, and appends a line to POWER_LOSS_LOG:
//
//   C ino path             a new file or directory
//   T ino length           cut to this length
//   S ino length           a file is on disk up to this length, or the names in a directory are
//   R ino from to saved    another name; `saved` is where the file that had it before can be found, or -
//   U path saved           a name less
//
// A line for what becomes durable is written after the fact and all others before it, so a process that dies
// in between is told too little, never too much. A file that loses its last name gets another one beside
// the log: it can come back, and its inode's number names no other file meanwhile.
//
// POWER_LOSS_AT=N: the process dies before or after one of its calls, at the Nth such moment.
// POWER_LOSS_LIE=SUFFIX,...: nothing is noted of syncs of files that end like this, as if they were left out.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Two threads that look one up at the same time find the same.
#define REAL(name)                                     \
    ({                                                 \
        static __typeof__(&name) found;                \
        if (!found) found = dlsym(RTLD_NEXT, #name);   \
        found;                                         \
    })

static const char *dir, *log_path, *lie;
static size_t dir_len;
static int log_fd = -1;
static long dies_at;
static atomic_long moments, saved_files;

__attribute__((constructor)) static void begin(void) {
    dir = getenv("POWER_LOSS_DIR");
    log_path = getenv("POWER_LOSS_LOG");
    lie = getenv("POWER_LOSS_LIE");
    const char *at = getenv("POWER_LOSS_AT");
    dies_at = at ? atol(at) : 0;
    if (!dir || !log_path) return;
    dir_len = strlen(dir);
    log_fd = REAL(open)(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) abort();
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
    char line[3 * PATH_MAX];
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    // A log with a hole would let the test blame the wrong one.
    if (length >= (int)sizeof line || write(log_fd, line, length) != length) abort();
    errno = error;
}

static void moment(void) {
    if (dies_at && atomic_fetch_add(&moments, 1) + 1 == dies_at) kill(getpid(), SIGKILL);
}

static int is_inside(const char *path) {
    return strncmp(path, dir, dir_len) == 0 && (path[dir_len] == '/' || path[dir_len] == 0);
}

static int path_of(int fd, char full[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, full, PATH_MAX - 1);
    if (length < 0) return 0;
    full[length] = 0;
    return 1;
}

// The whole path; whether it is one of ours.
static int ours(int at, const char *path, char full[PATH_MAX]) {
    if (log_fd < 0) return 0;
    full[0] = 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD ? !getcwd(full, PATH_MAX) : !path_of(at, full)) return 0;
        strncat(full, "/", PATH_MAX - 1 - strlen(full));
    }
    strncat(full, path, PATH_MAX - 1 - strlen(full));
    return is_inside(full);
}

// Another name for a file that is about to lose its own.
static void save(const char *full, char saved[PATH_MAX]) {
    long number = atomic_fetch_add(&saved_files, 1);
    snprintf(saved, PATH_MAX, "%.*s.%d.%ld", PATH_MAX - 64, log_path, getpid(), number);
    if (link(full, saved) != 0) strcpy(saved, "-");
}

static int do_open(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    struct stat found;
    if (!(flags & (O_CREAT | O_TRUNC)) || !ours(at, path, full)) return REAL(openat)(at, path, flags, mode);
    int is_new = stat(full, &found) != 0;
    if (!is_new && flags & O_TRUNC) note("T\t%lu\t0\n", found.st_ino);
    moment();
    int fd = REAL(openat)(at, path, flags, mode);
    if (fd >= 0 && is_new && fstat(fd, &found) == 0) note("C\t%lu\t%s\n", found.st_ino, full);
    moment();
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                           \
    int name(const char *path, int flags, ...) {             \
        va_list arguments;                                   \
        va_start(arguments, flags);                          \
        mode_t mode = mode_of(flags, arguments);             \
        va_end(arguments);                                   \
        return do_open(AT_FDCWD, path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                         \
    int name(int at, const char *path, int flags, ...) {     \
        va_list arguments;                                   \
        va_start(arguments, flags);                          \
        mode_t mode = mode_of(flags, arguments);             \
        va_end(arguments);                                   \
        return do_open(at, path, flags, mode);               \
    }
OPENAT(openat)
OPENAT(openat64)

static int is_lied_about(const char *full) {
    size_t length = strlen(full);
    for (const char *suffix = lie; suffix && *suffix;) {
        size_t end = strcspn(suffix, ",");
        if (end <= length && strncmp(full + length - end, suffix, end) == 0) return 1;
        suffix += end + (suffix[end] == ',');
    }
    return 0;
}

static int do_sync(int fd, int (*real)(int)) {
    char full[PATH_MAX];
    struct stat found;
    if (log_fd < 0 || fstat(fd, &found) != 0 || !path_of(fd, full) || !is_inside(full)) return real(fd);
    moment();
    int result = real(fd);
    // The length from before: what another thread adds meanwhile may be on disk or not.
    if (result == 0 && !is_lied_about(full)) note("S\t%lu\t%ld\n", found.st_ino, (long)found.st_size);
    moment();
    return result;
}

int fsync(int fd) { return do_sync(fd, REAL(fsync)); }
int fdatasync(int fd) { return do_sync(fd, REAL(fdatasync)); }

static int do_truncate(int fd, off_t length) {
    char full[PATH_MAX];
    struct stat found;
    if (log_fd < 0 || fstat(fd, &found) != 0 || !path_of(fd, full) || !is_inside(full))
        return REAL(ftruncate)(fd, length);
    note("T\t%lu\t%ld\n", found.st_ino, (long)length);
    moment();
    return REAL(ftruncate)(fd, length);
}

int ftruncate(int fd, off_t length) { return do_truncate(fd, length); }
int ftruncate64(int fd, off64_t length) { return do_truncate(fd, length); }

static int do_rename(int at_from, const char *from, int at_to, const char *to) {
    char full_from[PATH_MAX], full_to[PATH_MAX], saved[PATH_MAX];
    struct stat found;
    if (!ours(at_from, from, full_from) || !ours(at_to, to, full_to) || stat(full_from, &found) != 0)
        return REAL(renameat)(at_from, from, at_to, to);
    save(full_to, saved);
    note("R\t%lu\t%s\t%s\t%s\n", found.st_ino, full_from, full_to, saved);
    moment();
    int result = REAL(renameat)(at_from, from, at_to, to);
    moment();
    return result;
}

int rename(const char *from, const char *to) { return do_rename(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int at_from, const char *from, int at_to, const char *to) { return do_rename(at_from, from, at_to, to); }

static int do_unlink(int at, const char *path, int flags) {
    char full[PATH_MAX], saved[PATH_MAX];
    if (flags & AT_REMOVEDIR || !ours(at, path, full)) return REAL(unlinkat)(at, path, flags);
    save(full, saved);
    note("U\t%s\t%s\n", full, saved);
    moment();
    int result = REAL(unlinkat)(at, path, flags);
    moment();
    return result;
}

int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return do_unlink(at, path, flags); }

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    struct stat made;
    int is_ours = ours(AT_FDCWD, path, full);
    int result = REAL(mkdir)(path, mode);
    if (is_ours && result == 0 && stat(full, &made) == 0) note("C\t%lu\t%s\n", made.st_ino, full);
    return result;
}
