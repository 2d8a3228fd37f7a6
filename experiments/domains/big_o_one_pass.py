"""Families of the class O(n), as templates (big_o_template)."""

from __future__ import annotations

from experiments.domains.big_o_template import Family

FAMILIES = (
    Family(
        "O(n)",
        "walk",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|1|#|XS[0]»
    @each X in XS:
        @fold T by «X|X * X|X % #|X - #»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "steps",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|1|#»
    @times I in N«| // #|»:
        @fold T by «I|I * I|I % #|N - I|I ^ N»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "inward",
        "list",
        (
            """
def F(XS):
    T = «0|#»
    I, J = 0, len(XS) - 1
    while I < J:
        @fold T by «XS[I] - XS[J]|XS[I] * XS[J]|XS[I] ^ XS[J]|abs(XS[I] - XS[J])»
        «I += 1
        J -= 1|if XS[I] «<|<=» XS[J]:
            I += 1
        else:
            J -= 1|I, J = I + 1, J - 1|XS[I], XS[J] = XS[J], XS[I]
        I += 1
        J -= 1»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "countdown",
        "int",
        (
            """
def F(N):
    if N «<= 0|<= 1|< 1»:
        return «0|1|#»
    «A = N % #|A = N if N % 2 else #|A = N ^ #|A = max(N, ##)»
    return «F(N - 1)|F(N - 2)» «+|-|^» «A|A * #|(N - A)»
""",
            """
def F(N, T=«0|1|#»):
    if N «<= 0|<= 1|< 1»:
        return «T|T + #|T - N»
    @fold T by «N|N % #|N * #»
    return «F(N - 1, T)|F(N - 2, T)|F(N - 1, T + 1)»
""",
        ),
        deep=True,
    ),
    Family(
        "O(n)",
        "one_by_one",
        "list",
        (
            """
def G(XS, I):
    if I «==|>=» len(XS):
        return «0|#|I»
    «if XS[I] % # == 0:
        return G(XS, I + 1)«| + #| - 1»
    |if XS[I] > ##:
        return «XS[I] - |# + |»G(XS, I + 1)
    |»
    «return XS[I] + G(XS, I + 1)|return max(XS[I], G(XS, I + 1))|T = G(XS, I + 1)
    return T + XS[I] if T < ## else T|return G(XS, I + 1) - XS[I]|return G(XS, I + 1) ^ XS[I]»
def F(XS):
    @guard XS
    @give G(XS, 0)
""",
        ),
        deep=True,
    ),
    Family(
        "O(n)",
        "counts_by_key",
        "list",
        (
            """
def F(XS):
    D = {}
    @each X in XS:
        «A = X % ##|A = X|A = X // #|A = -X»
        «D[A] = D.get(A, 0) + 1|if A in D:
            D[A] += X
        else:
            D[A] = X|D.setdefault(A, []).append(X)|if A not in D:
            D[A] = X»
    «return len(D)|return max(D.values())|T = 0
    for Y in D:
        T += Y
    return T|return D.get(#, #)|return [A for A in D if A > #]»
""",
            """
def F(XS):
    D = set()
    T = 0
    @each X in XS:
        «if X in D:|if X - # in D:|if -X not in D:|if # - X in D:»
            «T += 1|T += X|T = X|T -= 1»
        D.add(«X|X % ##|X - #»)
    «return T|return T + len(D)|return len(D) - T|return T > #»
""",
        ),
    ),
    Family(
        "O(n)",
        "two_passes",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|#»
    @each X in XS:
        @fold T by «X|X % #»
    S = «0|T|#»
    @each Y in XS:
        @fold S by «Y - T|Y * T|Y ^ T»
    @give «S|T - S|S + T»
""",
        ),
    ),
    Family(
        "O(n)",
        "narrow_inside",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = 0
    @each X in XS:
        @times J in #:
            @fold T by «X * J|X + J|X % (J + 1)|X ^ J»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "narrow_before",
        "int",
        (
            """
def F(N):
    T = 0
    for I in range(«N|1, N|2, N + 1»):
        for J in range(max(0, I - #), I):
            @fold T by «I * J|I - J|I ^ J|J»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "moving_window",
        "list",
        (
            """
def F(XS):
    A, T, S = 0, 0, «0|#»
    for I in range(len(XS)):
        T += XS[I]
        while «T > ## and A <= I|A < I and T > ##|A < I and XS[A] < XS[I]»:
            T -= XS[A]
            A += 1
        «S = max(S, I - A + 1)|S = max(S, T)|if T == ##:
            S += 1|S += I - A»
    @give «S|S + A|S - T»
""",
            """
def F(XS, A=#):
    T = sum(XS[:A])
    S = «T|#|0»
    for I in range(A, len(XS)):
        T += XS[I] - XS[I - A]
        @fold S by «T|T // A|T - XS[I]»
    @give «S|S - T»
""",
        ),
    ),
    Family(
        "O(n)",
        "shrinking_passes",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    while N > «0|1|#»:
        @times I in N:
            @fold T by «I|N - I|I * N|I % #»
        «N //= 2|N = N // 2|N >>= 1|N //= 3»
    @give T
""",
            """
def F(N):
    T, I = 0, 1
    while I «<|<=» N:
        @times J in I:
            @fold T by «J|I - J|I ^ J|J % #»
        @double I
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "half_and_half",
        "int",
        (
            """
def F(N):
    if N «<= 1|< #|<= #»:
        return «#|N|1»
    «A = F(N // 2)
    B = F(N // 2)|A, B = F(N // 2), F(N - N // 2)|A = F(N >> 1)
    B = F(N >> 1) + #|A = B = F(N // 2)
    B += F(N // 2)»
    «if A > B:
        return A
    |A += N % #
    |»
    «return A + B|return A - B + N|return max(A, B) + #|return A * B % ##»
""",
        ),
    ),
    Family(
        "O(n)",
        "halves_of_list",
        "list",
        (
            """
def G(XS, I, J):
    if J - I «< 2|<= 1»:
        return XS[I]
    C = «(I + J) // 2|I + (J - I) // 2»
    «A, B = G(XS, I, C), G(XS, C, J)|A = G(XS, I, C)
    B = G(XS, C, J)»
    «return A + B|return max(A, B)|return A if A < B else B|return abs(A - B)»
def F(XS):
    @guard XS
    @give G(XS, 0, len(XS))
""",
        ),
    ),
    Family(
        "O(n)",
        "waiting_pile",
        "list",
        (
            """
def F(XS):
    YS, T = [], 0
    «for X in XS:|for X in reversed(XS):»
        while YS and YS[-1] «<|>|>=» X:
            «YS.pop()|T += YS.pop()|YS.pop()
            T += 1|T = max(T, YS.pop())»
        «if YS:
            T += YS[-1]|if not YS:
            T += 1|T += len(YS)|»
        YS.append(X)
    @give «T|len(YS)|T + len(YS)|T - YS[0]»
""",
        ),
    ),
    Family(
        "O(n)",
        "running_best",
        "list",
        (
            """
def F(XS):
    @guard XS
    T, S = «XS[0], XS[0]|0, 0|0, #»
    @each X in XS:
        «T = max(X, T + X)|T = T + X if T > 0 else X|T = max(0, T + X - #)|T = X - T»
        «S = max(S, T)|if T > S:
            S = T|S = T if T > S else S|S += T > S»
    @give «S|S - T|S + T»
""",
        ),
    ),
    Family(
        "O(n)",
        "two_numbers",
        "int",
        (
            """
def F(N):
    @check N
    A, B = «0, 1|1, 1|#, #|1, #»
    @times I in N:
        «A, B = B, (A + B) % ##|A, B = B, (B * # + A) % ##|A, B = (A + B) % ##, A
        if A > B:
            A -= 1|A, B = B, A ^ I»
    @give «A|B|A + B|A * B»
""",
        ),
    ),
    Family(
        "O(n)",
        "library_pass",
        "list",
        (
            """
def F(XS):
    @guard XS
    A = «sum(XS)|max(XS)|min(XS)|len(set(XS))»
    «B = sum(X % # for X in XS)|B = max(X - A for X in XS)|B = len([X for X in XS if X > A // #])|B = sum(1 for X in XS if X «<|>» A)|B = any(X > A for X in XS)|B = XS.count(A)|B = min(abs(X - A) for X in XS)|B = all(X < A for X in XS)»
    «if A == B:
        return #
    |if B:
        A -= #
    |»
    @give «A - B|A + B|A * B»
""",
            """
def F(XS):
    YS = «[X * # for X in XS]|XS[::-1]|list(XS)|[X for X in XS if X % #]|[X - XS[0] for X in XS]»
    «T = 0
    for I in range(len(YS)):
        @fold T by «YS[I]|YS[I] - XS[I]|YS[I] * I»|T = sum(YS)|T = sum(A * B for A, B in zip(XS, YS))|T = max(YS)»
    @give T
""",
        ),
    ),
    Family(
        "O(n)",
        "running_sums",
        "list",
        (
            """
def F(XS):
    YS = [«0|#»]
    @each X in XS:
        YS.append(«YS[-1] + X|max(YS[-1], X)|YS[-1] ^ X|(YS[-1] * # + X) % ##|YS[-1] - X if X % # else X»)
    «T = 0
    for I in range(1, len(YS)):
        @fold T by «YS[I] - XS[I - 1]|YS[I] * #|YS[I] - YS[I - 1]|YS[I] - YS[I // 2]»
    return T|return YS[-1] - YS[len(XS) // 2]|return YS|return YS[-1]|return max(YS)»
""",
        ),
    ),
)
