"""Families of the class O(n log n), as templates (big_o_template)."""

from __future__ import annotations

from experiments.domains.big_o_template import Family

FAMILIES = (
    Family(
        "O(n log n)",
        "rows_shrink",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    @times I in N:
        J = N
        while J > «0|1»:
            @fold T by «J|I|I + J|I ^ J|J % #»
            @halve J
    @give T
""",
            """
def F(N):
    T = 0
    @times I in N:
        J = I
        while J > 0:
            «T += J & 1|T += J % #|if J & 1:
                T += I|T = max(T, J % ##)|T -= J»
            @halve J
        «if T > ##:
            T -= #|»
    @give T
""",
        ),
    ),
    Family(
        "O(n log n)",
        "rows_grow",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|#»
    @each X in XS:
        J = 1
        while J «<|<=» len(XS):
            @fold T by «X|J|X * J|X - J|X % J»
            @double J
    @give T
""",
        ),
    ),
    Family(
        "O(n log n)",
        "ordered_walk",
        "list",
        (
            """
def F(XS):
    @guard XS
    YS = sorted(XS«|, reverse=True|, key=lambda Z: «-Z|Z * #|abs(Z - #)»»)
    T = «0|#|YS[0]»
    @each X in YS:
        @fold T by «X|X % #|X - YS[0]|X * #»
    @give T
""",
            """
def F(XS):
    @guard XS
    «XS = sorted(XS)|XS.sort()|XS.sort(reverse=True)|XS.sort(key=lambda Z: -Z)»
    «return XS[len(XS) // 2]|return XS[0] + XS[-1]|return XS[-#] if len(XS) > # else XS[0]|A = len(XS) // 2
    return (XS[A] + XS[-A]) // 2|return XS[len(XS) // #:]|return sum(XS[:#])»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "ordered_gaps",
        "list",
        (
            """
def F(XS):
    @guard XS
    «YS = sorted(XS)|XS.sort()
    YS = XS|YS = list(XS)
    YS.sort()|YS = sorted(XS, reverse=True)»
    T = «0|#»
    for I in range(1, len(YS)):
        @fold T by «YS[I] - YS[I - 1]|abs(YS[I] - YS[I - 1])|YS[I] * YS[I - 1]|YS[I] ^ YS[I - 1]»
    @give T
""",
            """
def F(XS):
    «YS = sorted(XS)|YS = list(XS)
    YS.sort()»
    T, S = 1, «1|0»
    for I in range(1, len(YS)):
        «if YS[I] == YS[I - 1]:|if YS[I] - YS[I - 1] «==|<=|<» #:|if YS[I] % # == YS[I - 1] % #:»
            T += 1
        else:
            «S = max(S, T)
            T = 1|T = 1|S += T
            T = 0»
    «return max(S, T)|return T|return S|return S - T»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "ordered_inward",
        "list",
        (
            """
def F(XS, A=##):
    «XS = sorted(XS)|XS.sort()»
    I, J, T = 0, len(XS) - 1, 0
    while I < J:
        «B = XS[I] + XS[J]|B = XS[J] - XS[I]|B = XS[I] * XS[J]»
        «if B == A:
            «return I|T += 1|return B»
        |»
        «if B < A:
            I += 1
        else:
            J -= 1|if B > A:
            J -= 1
            «T += 1|T += J - I|T = max(T, B)»
        else:
            I += 1|T += B > A
        I += 1
        J -= 1»
    «return T|return T - #|return -1|return A - T»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "fill_and_drain",
        "list",
        (
            """
import heapq
def F(XS):
    YS = []
    @each X in XS:
        heapq.heappush(YS, «X|-X|X % ##|X * #|(X % #, X)[1]»)
    T = «0|#»
    while «YS|len(YS) > 0|len(YS) > 1»:
        X = heapq.heappop(YS)
        @fold T by «X|X % #|abs(X)|X - #»
    @give T
""",
            """
import heapq
def F(XS):
    @guard XS
    «heapq.heapify(XS)
    YS = XS|YS = list(XS)
    heapq.heapify(YS)|YS = [-X for X in XS]
    heapq.heapify(YS)»
    T = 0
    while len(YS) > 1:
        A = heapq.heappop(YS)
        «B = heapq.heappop(YS)
        heapq.heappush(YS, «A + B|max(A, B)|abs(A - B)|A * # + B»)|heapq.heapreplace(YS, «A + YS[0]|YS[0] + #|max(A, #)»)»
        «T += A|T = max(T, A)|T += A % #|T ^= A»
    @give «T|T + YS[0]|YS[0]»
""",
            """
import heapq
def F(XS):
    YS, T = [], 0
    @each X in XS:
        heapq.heappush(YS, «X|-X|X * #»)
        «if len(YS) > #:
            T += YS[0]|if X > YS[0]:
            T += 1|T += YS[0]|T = max(T, X - YS[0])|»
    «return T + YS[0]|return [heapq.heappop(YS) for X in XS]|while len(YS) > 1:
        T += heapq.heappop(YS)
    return T|return T»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "two_runs",
        "list",
        (
            """
def F(XS):
    if len(XS) «<= 1|< 2»:
        return XS
    C = len(XS) «// 2|>> 1»
    A, B = F(XS[:C]), F(XS[C:])
    YS, I, J = [], 0, 0
    while I < len(A) and J < len(B):
        if A[I] «<|<=|>|>=» B[J]:
            «YS.append(A[I])
            I += 1|I += 1
            YS.append(A[I - 1])»
        else:
            «YS.append(B[J])
            J += 1|J += 1
            YS.append(B[J - 1])»
    «return YS + A[I:] + B[J:]|YS += A[I:]
    return YS + B[J:]|YS.extend(A[I:] or B[J:])
    return YS|for X in A[I:] + B[J:]:
        YS.append(X)
    return YS|while I < len(A):
        YS.append(A[I])
        I += 1
    return YS + B[J:]»
""",
            """
def F(XS):
    if len(XS) «<= 1|< 2»:
        return «XS[0]|#|XS[0] * #»
    C = len(XS) «// 2|>> 1»
    T = 0
    «for X in XS[C:]:|for X in XS[:C]:|for X in XS:»
        @fold T by «X|X - XS[0]|X % #|X * #»
    «return max(T, F(XS[:C]), F(XS[C:]))|return F(XS[:C]) + F(XS[C:]) - T|A = F(XS[:C])
    B = F(XS[C:])
    return A + B if T > # else A - B|return T + max(F(XS[:C]), F(XS[C:]))»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "split_and_count",
        "int",
        (
            """
def F(N):
    if N «<= 1|< #|<= #»:
        return «0|1|#|N»
    T = «0|#»
    @times I in N:
        @fold T by «I|N - I|I % #|I ^ N»
    «A = F(N // 2)
    B = F(N // 2)|A, B = F(N // 2), F(N - N // 2)|A = F(N >> 1)
    B = F(N >> 1)»
    «return T + A + B|return T + max(A, B)|return T - A + B|return (A * B + T) % ##»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "seek_each",
        "list",
        (
            """
def G(XS, A):
    I, J = 0, len(XS)
    while I < J:
        C = «(I + J) // 2|I + (J - I) // 2|(I + J) >> 1»
        «if XS[C] < A:
            I = C + 1
        else:
            J = C|if XS[C] > A:
            J = C
        else:
            I = C + 1»
    return «I|J»
def F(XS):
    T = «0|#»
    YS = «sorted(XS)|XS|list(range(len(XS)))»
    @each X in YS:
        @fold T by G(YS, X«| + #| * 2| - #»)
    @give T
""",
            """
import bisect
def F(XS):
    «YS = sorted(XS)|XS.sort()
    YS = XS|YS = [X * # for X in range(len(XS))]»
    T = «0|#»
    @each X in XS:
        I = bisect.«bisect_left|bisect_right|bisect»(YS, X«| + #| - #| // #»)
        «if I < len(YS):
            T += YS[I]|T += I|T = max(T, I)|if I > len(YS) // 2:
            T += 1|T += len(YS) - I|if I and YS[I - 1] > #:
            T -= I»
    @give T
""",
        ),
    ),
    Family(
        "O(n log n)",
        "harmonic_strides",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    for I in range(1, N«| + 1»):
        «for J in range(«0|I|I - 1», N, I):
            @fold T by «J|I|J - I|J ^ I»|J = «0|I»
        while «J <= N|J < N» and J >= 0:
            @fold T by «J|I|J % #»
            J += I|J = N
        while J > 0:
            @fold T by «J|I|J % #»
            J -= I»
    @give T
""",
            """
def F(N):
    XS = [«0|1|#»] * (N + 1)
    for I in range(«1|2», N + 1):
        for J in range(«I|2 * I|I + I», N + 1, I):
            «XS[J] += I|XS[J] += 1|XS[J] = max(XS[J], XS[I])|XS[J] += XS[I] % #|XS[J] ^= I»
    «return XS[N]|return max(XS)|return sum(XS)|return XS.count(#)|return XS[N] - XS[N // 2]»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "doubling_passes",
        "list",
        (
            """
def F(XS):
    @guard XS
    T, I = 0, 1
    while I «<|<=» len(XS):
        @each X in XS:
            @fold T by «X|X % I|X // I|X ^ I»
        @double I
    @give T
""",
            """
def F(XS):
    YS, I = «list(XS)|XS[:]|XS», 1
    while I < len(YS):
        «for J in range(I, len(YS)):|for J in range(len(YS) - I):|for J in range(len(YS) - 1, I - 1, -1):»
            «YS[J] += YS[J - I]|YS[J] = max(YS[J], YS[J - I])|if YS[J] < YS[J - I]:
                YS[J] = YS[J - I]|YS[J] ^= YS[J - I]|YS[J] = (YS[J] + YS[J - I]) % ##»
        @double I
    «return YS[-1]|return YS|return YS[0] + YS[-1]|return max(YS)|return YS[len(YS) // 2]»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "halving_passes",
        "int",
        (
            """
def F(N):
    @check N
    T, A = 0, N
    while A > «0|1»:
        @times I in N:
            @fold T by «I % A|I|A - I|I ^ A»
        «A //= 2|A >>= 1|A = A // 2|A //= 3»
    @give T
""",
            """
def F(N, A=None):
    A = N if A is None else A
    if A «<= 1|< 1|== 0»:
        return «0|#|N»
    T = «0|#»
    @times I in N:
        @fold T by «I % A|I|A - I|I ^ A»
    «return T + F(N, A // 2)|return F(N, A >> 1) - T|return max(T, F(N, A // 2))|return F(N, A // 3) ^ T»
""",
        ),
    ),
    Family(
        "O(n log n)",
        "rank_by_order",
        "list",
        (
            """
def F(XS):
    @guard XS
    YS = sorted(range(len(XS)), key=lambda I: «XS[I]|-XS[I]|XS[I] * #|(XS[I], I)»)
    «ZS = [0] * len(XS)
    for J in range(len(YS)):
        ZS[YS[J]] = «J|J + #|J * #»
    return «ZS|ZS[0]|ZS[-1] - ZS[0]|ZS[len(ZS) // 2]»|T = 0
    for J in range(len(YS)):
        @fold T by «YS[J]|YS[J] - J|abs(YS[J] - J)|XS[YS[J]] * J»
    return T|return [XS[J] for J in YS]«|[:#]|[::-1]»|return YS«|[0]|[-1]»»
""",
            """
def F(XS):
    D = {}
    for X in sorted(XS«|, reverse=True»):
        «D[X] = len(D)|if X not in D:
            D[X] = len(D)«| + #»|D.setdefault(X % ##, X)|D.setdefault(X, len(D))»
    «return [D[X] for X in XS]|T = 0
    @each X in XS:
        @fold T by «D.get(X, #)|D.get(X, #) - X|D.get(-X, X)»
    return T|return len(D)|return D.get(«#|##», #)»
""",
        ),
    ),
)
