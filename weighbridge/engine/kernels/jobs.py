"""A job: one stored rectangle times up to some vectors. A table of jobs is int64 [jobs, FIELDS].

Jobs that add to the same rows of the result stand together; such a *band* is cut into tasks of STEP rows, and
a thread takes the next task of the table by an atomic count. A task does all jobs of its band one after the other, so
the sum of a row has one order, whichever thread does it.

FP8 codes take a vector as `prepare` made it: X scaled, and DEALT the same with every 32 elements in the order 0, 4, 8 ... 28,
1, 5 ... 31. DEALT is 0 where the rectangle does not begin at such a group, or where a step of codes has two scales.

Element (i, j) of the rectangle [R, C], in logical axes, is at CODES + itemsize * (i * LD + j), or (i + j * LD) if it
is TURNED. Its scale is at SCALE + 4 * ((R0 + i) // BR * SCALE_ROW + (C0 + j) // BC * SCALE_COL).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weighbridge.encoding.kernels.memory import inner, load_f32, load_i64, load_u8

NAMES = ("KIND", "TURNED", "CODES", "LD", "R", "C", "SCALE", "SCALE_ROW", "SCALE_COL", "R0", "C0", "BR", "BC", "X", "X_LD", "DEALT", "POWERS",
         "Y", "Y_LD", "T", "JOBS", "TASKS", "STEP")
FIELDS = len(NAMES)
(KIND, TURNED, CODES, LD, R, C, SCALE, SCALE_ROW, SCALE_COL, R0, C0, BR, BC, X, X_LD, DEALT, POWERS, Y, Y_LD, T, JOBS, TASKS,
 STEP) = range(FIELDS)
F8, BF16, F32 = range(3)  # KIND
LONGEST = 2048  # rows of one task
F8_STEP = 128  # codes that the vector kernel takes at once
MOST = 16  # vectors of one job
WIDEST = 1 << 17  # columns for which it keeps a factor per step
SCRATCH = 4 * MOST * LONGEST + 4 * WIDEST // F8_STEP + 32  # bytes that a thread needs: sums, factors, and a little
LOWEST, HIGHEST = 2.0**-40, 2.0**60  # between them a scale keeps all values and sums clear of the ends of float32


@intrinsic
def claim(typingctx, counter):
    """The next number of a counter that threads share."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "monotonic")

    return types.int64(types.int64), codegen


@inner
def field(jobs, job, name):
    return load_i64(jobs, job * FIELDS + name)


@inner
def seek(jobs, count, band, before, task):
    """(band, tasks before it) of a task, from a band at or before it; band is `count` past the end."""
    while band < count and task >= before + field(jobs, band, TASKS):
        before += field(jobs, band, TASKS)
        band += field(jobs, band, JOBS)
    return band, before


@inner
def usual(scale):
    return LOWEST < abs(scale) < HIGHEST or scale == 0


@inner
def careful_row(jobs, job, i, x, values):
    """Row i times one scaled vector, each code looked up: right for every code and every scale."""
    total, ld = 0.0, field(jobs, job, LD)
    src, stride = field(jobs, job, CODES) + i * ld, 1
    if field(jobs, job, TURNED):
        src, stride = field(jobs, job, CODES) + i, ld
    scale = field(jobs, job, SCALE) + 4 * ((field(jobs, job, R0) + i) // field(jobs, job, BR) * field(jobs, job, SCALE_ROW))
    c0, wide, scale_col = field(jobs, job, C0), field(jobs, job, BC), field(jobs, job, SCALE_COL)
    for j in range(field(jobs, job, C)):
        value = load_f32(values, load_u8(src, j * stride)) * load_f32(scale, (c0 + j) // wide * scale_col)
        total += value * (load_f32(x, j) * 2.0**-60)
    return total
