"""A pool of memory: the memory of a freed array is reused for the next array of about the same size.

Every training step creates arrays of the same sizes, and mapping fresh pages takes longer than filling the arrays. So
the arrays of a step come from a custom allocator (NEP 49), which is active in the current thread and inside the `with`
block only. Arrays may outlive the block. `_buffers_numpy.py` leaves NumPy's allocator in place.
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
    SMALLEST = 32768  # bytes: the system's allocator reuses smaller blocks itself
    CLASSES = 256  # sizes of blocks, see `rounded`
    LINE = 64  # bytes of a cache line: arrays are aligned to it, and the Block is in the line before
    SET_HANDLER = 304  # the index of PyDataMem_SetHandler in NumPy's C API, since 1.22

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

ctypedef struct Block:  # the header of a block, in the cache line before the memory of an array
    Block* next
    void* start
    size_t capacity

ctypedef struct Pool:
    Handler handler
    PyThread_type_lock lock
    Block* kept[CLASSES]

ctypedef object (*handler_setter)(object)  # installs a handler and returns the previous one
cdef handler_setter set_handler = <handler_setter> (<void**> PyCapsule_GetPointer(_ARRAY_API, NULL))[SET_HANDLER]


cdef inline int rounded(size_t* size) noexcept nogil:
    """Round a size up to a multiple of a quarter of a power of two, and return the index of that size class."""
    cdef int log = 0
    while size[0] >> log > 7:
        log += 1
    cdef size_t head = (size[0] + (<size_t> 1 << log) - 1) >> log  # 4 to 8
    size[0] = head << log
    return 4 * log + <int> head


cdef void* take(void* context, size_t size) noexcept nogil:
    """malloc: take a block from the pool, or allocate one"""
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
        block.start, block.capacity = start, size
    return <char*> block + LINE


cdef void* take_zeros(void* context, size_t count, size_t size) noexcept nogil:
    """calloc: take a block and fill it with zeros"""
    if size and count > (<size_t> 1 << 62) // size:
        return NULL
    cdef void* data = take(context, count * size)
    if data:
        memset(data, 0, count * size)
    return data


cdef void give(void* context, void* data, size_t size) noexcept nogil:
    """free: return a block to the pool"""
    cdef Pool* pool = <Pool*> context
    cdef Block* block
    cdef int which
    if not data:
        return
    block = <Block*> (<char*> data - LINE)
    if block.capacity < SMALLEST:
        free(block.start)
        return
    size = block.capacity
    which = rounded(&size)
    PyThread_acquire_lock(pool.lock, 1)
    block.next, pool.kept[which] = pool.kept[which], block
    PyThread_release_lock(pool.lock)


cdef void* take_more(void* context, void* data, size_t size) noexcept nogil:
    """realloc: take a block, copy the data, and return the old block to the pool"""
    cdef void* larger = take(context, size)
    cdef size_t capacity
    if data and larger:
        capacity = (<Block*> (<char*> data - LINE)).capacity
        memcpy(larger, data, min(capacity, size))
        give(context, data, capacity)
    return larger


cdef void release(object capsule) noexcept:
    """Free a pool."""
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
    if not empty.lock:
        free(empty)
        raise MemoryError
    strcpy(empty.handler.name, "hopmin")
    empty.handler.version = 1
    empty.handler.allocator = Allocator(empty, take, take_zeros, take_more, give)
    return PyCapsule_New(empty, "mem_handler", release)


@contextmanager
def within(pool):
    previous = set_handler(pool)
    try:
        yield
    finally:
        set_handler(previous)
