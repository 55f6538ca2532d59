"""Memory that is kept: within a pool, an array that is freed leaves its memory to the next of about its size.

A training step makes the same arrays again and again, and a system asks for more time to hand out fresh pages than
NumPy takes to fill them. So the arrays of a step are made by an allocator of our own (NEP 49), in this thread and
within the pool only. They may live on.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock,
)
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strcpy

from contextlib import contextmanager

from numpy._core._multiarray_umath import _ARRAY_API

cdef enum:
    SMALLEST = 32768  # bytes: smaller arrays are left to the system, which keeps them itself
    CLASSES = 256
    LINE = 64  # bytes before an array's, at a multiple of so many
    SET_HANDLER = 304  # the place of PyDataMem_SetHandler among NumPy's functions, since 1.22

ctypedef struct Allocator:  # PyDataMemAllocator
    void* context
    void* (*malloc)(void*, size_t) noexcept nogil
    void* (*calloc)(void*, size_t, size_t) noexcept nogil
    void* (*realloc)(void*, void*, size_t) noexcept nogil
    void (*free)(void*, void*, size_t) noexcept nogil

ctypedef struct Handler:  # PyDataMem_Handler
    char name[127]
    uint8_t version
    Allocator allocator

ctypedef struct Block:  # stands in the line before an array's memory
    Block* next
    void* start
    size_t room

ctypedef struct Pool:
    Handler handler
    PyThread_type_lock lock
    Block* kept[CLASSES]

ctypedef object (*set_handler)(object)
cdef set_handler into = <set_handler> (<void**> PyCapsule_GetPointer(_ARRAY_API, NULL))[SET_HANDLER]


cdef inline int rounded(size_t* size) noexcept nogil:
    """Round up to one of the four sizes between a power of two and the next; return which of all of them it is."""
    cdef int log = 0
    while size[0] >> log > 7:
        log += 1
    cdef size_t head = (size[0] + (<size_t> 1 << log) - 1) >> log  # 4 to 8
    size[0] = head << log
    return 4 * log + <int> head


cdef void* take(void* context, size_t size) noexcept nogil:
    cdef Pool* pool = <Pool*> context
    cdef Block* block = NULL
    cdef void* start
    cdef int which
    if size > <size_t> 1 << 62:
        return NULL
    if size >= SMALLEST:
        which = rounded(&size)
        PyThread_acquire_lock(pool.lock, 1)
        block = pool.kept[which]
        if block:
            pool.kept[which] = block.next
        PyThread_release_lock(pool.lock)
    if not block:
        start = malloc(size + 2 * LINE)
        if not start:
            return NULL
        block = <Block*> ((<uintptr_t> start + LINE - 1) // LINE * LINE)
        block.start, block.room = start, size
    return <char*> block + LINE


cdef void* take_zeros(void* context, size_t count, size_t size) noexcept nogil:
    if size and count > (<size_t> 1 << 62) // size:
        return NULL
    cdef void* data = take(context, count * size)
    if data:
        memset(data, 0, count * size)
    return data


cdef void give(void* context, void* data, size_t size) noexcept nogil:
    cdef Pool* pool = <Pool*> context
    cdef Block* block
    cdef int which
    if not data:
        return
    block = <Block*> (<char*> data - LINE)
    if block.room < SMALLEST:
        free(block.start)
        return
    size = block.room
    which = rounded(&size)
    PyThread_acquire_lock(pool.lock, 1)
    block.next, pool.kept[which] = pool.kept[which], block
    PyThread_release_lock(pool.lock)


cdef void* take_more(void* context, void* data, size_t size) noexcept nogil:
    cdef void* larger = take(context, size)
    cdef size_t room
    if data and larger:
        room = (<Block*> (<char*> data - LINE)).room
        memcpy(larger, data, room if room < size else size)
        give(context, data, room)
    return larger


cdef void release(object capsule) noexcept:
    cdef Pool* pool = <Pool*> PyCapsule_GetPointer(capsule, "mem_handler")
    cdef Block* block
    for which in range(CLASSES):
        while pool.kept[which]:
            block = pool.kept[which]
            pool.kept[which] = block.next
            free(block.start)
    PyThread_free_lock(pool.lock)
    free(pool)


FUNCTIONS = ("pool", "within")


def pool():
    cdef Pool* empty = <Pool*> calloc(1, sizeof(Pool))
    if not empty:
        raise MemoryError
    empty.lock = PyThread_allocate_lock()
    strcpy(empty.handler.name, "hopmin")
    empty.handler.version = 1
    empty.handler.allocator = Allocator(empty, take, take_zeros, take_more, give)
    return PyCapsule_New(empty, "mem_handler", release)


@contextmanager
def within(pool):
    before = into(pool)
    try:
        yield
    finally:
        into(before)
