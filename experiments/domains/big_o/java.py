"""Programs of big_o in Java, translated statement by statement: the family's label, which is measured in Python, stays true.

Only forms with the same steps in both languages are translated: whole numbers, arrays, loops, branches, recursion, sorting.
A program with anything else (dictionaries, growing lists, comprehensions, heaps) has no translation. Numbers are 32 bits wide.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

INT, ARRAY, BOOL = "int", "int[]", "boolean"
BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.BitXor: "^", ast.BitAnd: "&", ast.BitOr: "|", ast.LShift: "<<",
    ast.RShift: ">>",
}  # fmt: skip
COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
# Python rounds quotients down and gives a remainder the sign of the divisor; Java's / and % do not.
FLOORED = {ast.FloorDiv: "Math.floorDiv", ast.Mod: "Math.floorMod"}
LISTS = ("len", "sorted", "reversed", "sum", "list")  # a parameter that these take is an array


WIDTH = 31  # bits of an int without its sign


class Untranslatable(Exception):
    """A form of Python that has no counterpart here."""


def java_of(text: str) -> str:
    """Return the functions of a Python program as static Java methods.

    Raises:
        Untranslatable: some form of it is not translated.
    """
    functions = ast.parse(text).body
    _check_width(functions)
    if not all(isinstance(f, ast.FunctionDef) for f in functions):
        raise Untranslatable("more than functions")
    known = {f.name: _parameters(f) for f in functions if isinstance(f, ast.FunctionDef)}
    return "\n\n".join(_Method(f, known).text() for f in functions if isinstance(f, ast.FunctionDef))


def _check_width(functions: Sequence[ast.stmt]) -> None:
    nodes = [n for f in functions for n in ast.walk(f)]
    wide = any(isinstance(n, ast.Constant) and isinstance(n.value, int) and n.value >= WIDTH for n in nodes)
    if wide and any(isinstance(n, ast.LShift | ast.RShift) for n in nodes):
        raise Untranslatable("a shift that may be wider than a number")


def _parameters(f: ast.FunctionDef) -> dict[str, str]:
    """Return the type of each parameter, as the function uses it."""
    if f.args.defaults or f.args.kwonlyargs or f.args.vararg:
        raise Untranslatable("default values")
    arrays = set()
    for node in ast.walk(f):
        if isinstance(node, ast.Subscript):
            arrays.add(_name(node.value))
        elif isinstance(node, ast.For):
            arrays.add(_name(node.iter))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LISTS and node.args:
            arrays.add(_name(node.args[0]))
        elif isinstance(node, ast.Attribute):
            arrays.add(_name(node.value))
    return {a.arg: ARRAY if a.arg in arrays else INT for a in f.args.args}


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _stored(node: ast.AST) -> set[str]:
    """Return the names that are assigned anywhere in a node."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


class _Method:
    """One function on its way to Java."""

    def __init__(self, f: ast.FunctionDef, known: dict[str, dict[str, str]]) -> None:
        self.f, self.known = f, known
        self.types = dict(known[f.name])
        self.hoisted: dict[str, str] = {}  # variables whose first assignment stands in a block
        self.literal: set[str] = set()  # arrays whose elements are written out
        self.lines: list[str] = []
        self.depth = 1
        self.fresh = 0

    def text(self) -> str:
        if not _ends(self.f.body):
            raise Untranslatable("a function that ends without a value")
        self.block(self.f.body)
        head = ", ".join(f"{kind} {name}" for name, kind in self.known[self.f.name].items())
        declared = [f"    {kind} {name} = {'0' if kind == INT else 'null'};" for name, kind in self.hoisted.items()]
        return "\n".join([f"static int {self.f.name}({head}) {{", *declared, *self.lines, "}"])

    def write(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def block(self, body: Sequence[ast.stmt]) -> None:
        for s in body:
            handler = getattr(self, f"_{type(s).__name__.lower()}", None)
            if handler is None:
                raise Untranslatable(type(s).__name__)
            handler(s)

    def inside(self, head: str, body: Sequence[ast.stmt]) -> None:
        self.write(f"{head} {{")
        self.depth += 1
        self.block(body)
        self.depth -= 1
        self.write("}")

    def other(self) -> str:
        """Return a name that the function does not have."""
        self.fresh += 1
        return f"v{self.fresh}"

    # Statements

    def _return(self, s: ast.Return) -> None:
        if s.value is None:
            raise Untranslatable("a return without a value")
        self.write(f"return {_bare(self.number(s.value))};")

    def _break(self, s: ast.Break) -> None:
        self.write("break;")

    def _continue(self, s: ast.Continue) -> None:
        self.write("continue;")

    def _expr(self, s: ast.Expr) -> None:
        match s.value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="sort"), args=[], keywords=[]):
                self.write(f"Arrays.sort({name});")
            case _:
                raise Untranslatable("a statement without a target")

    def _assign(self, s: ast.Assign) -> None:
        if len(s.targets) != 1:
            raise Untranslatable("several targets")
        target, value = s.targets[0], s.value
        if not isinstance(target, ast.Tuple):
            if isinstance(value, ast.List | ast.Tuple):
                self.literal.add(_name(target))
            self.assign(target, *self.value(value))
            return
        if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
            raise Untranslatable("a tuple")
        kept = []
        for one in value.elts:  # all values are read before the first target is written
            java, kind = self.value(one)
            if not isinstance(one, ast.Constant):
                name = self.other()
                self.write(f"{kind} {name} = {java};")
                java = name
            kept.append((java, kind))
        for one, (java, kind) in zip(target.elts, kept, strict=True):
            self.assign(one, java, kind)

    def assign(self, target: ast.expr, java: str, kind: str) -> None:
        if kind == BOOL:
            raise Untranslatable("a variable that is true or false")
        java = _bare(java)
        if not isinstance(target, ast.Name):
            self.write(f"{self.number(target)} = {java};")
        elif target.id in self.types:
            if self.types[target.id] != kind:
                raise Untranslatable("a variable of two types")
            self.write(f"{target.id} = {java};")
        else:
            self.types[target.id] = kind
            if self.depth == 1:
                self.write(f"{kind} {target.id} = {java};")
            else:
                self.hoisted[target.id] = kind
                self.write(f"{target.id} = {java};")

    def value(self, node: ast.expr) -> tuple[str, str]:
        """Return an assigned expression; a sorted copy is made before it."""
        if isinstance(node, ast.Call) and _name(node.func) == "sorted":
            if len(node.args) != 1 or node.keywords:
                raise Untranslatable("sorted otherwise")
            name = self.other()
            self.write(f"int[] {name} = {self.array(node.args[0])}.clone();")
            self.write(f"Arrays.sort({name});")
            return name, ARRAY
        return self.expression(node)

    def _augassign(self, s: ast.AugAssign) -> None:
        if type(s.op) in BINARY:
            self.write(f"{self.number(s.target)} {BINARY[type(s.op)]}= {self.number(s.value)};")
        else:
            target = self.number(s.target)
            self.write(f"{target} = {self.operation(s.op, target, self.number(s.value))};")

    def _if(self, s: ast.If) -> None:
        self.inside(f"if ({self.truth(s.test)})", s.body)
        if s.orelse:
            self.inside("else", s.orelse)

    def _while(self, s: ast.While) -> None:
        if s.orelse:
            raise Untranslatable("else of a loop")
        self.inside(f"while ({self.truth(s.test)})", s.body)

    def _for(self, s: ast.For) -> None:
        name = _name(s.target)
        inside = {n for part in s.body for n in ast.walk(part)}
        elsewhere = {
            n.id for n in ast.walk(self.f) if isinstance(n, ast.Name) and n not in inside and n is not s.target
        }
        if s.orelse or not name or name in self.types or name in elsewhere:
            raise Untranslatable("a loop whose variable is used elsewhere")
        stored, kind = {n for part in s.body for n in _stored(part)}, self.types.copy()
        call = s.iter if isinstance(s.iter, ast.Call) else None
        self.types[name] = INT
        if call is not None and _name(call.func) == "range":
            names = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
            if stored & (names | {name}):  # Python reads the bounds once
                raise Untranslatable("a loop that changes its bounds")
            self.inside(self.counted(name, call), s.body)
        elif call is not None and _name(call.func) == "reversed":
            array, at = self.array(call.args[0]), self.other()
            self.write(f"for (int {at} = {array}.length - 1; {at} >= 0; {at}--) {{")
            self.depth += 1
            self.write(f"int {name} = {array}[{at}];")
            self.block(s.body)
            self.depth -= 1
            self.write("}")
        else:
            array, found = self.value(s.iter)
            if found != ARRAY:
                raise Untranslatable("a loop over something else")
            self.inside(f"for (int {name} : {array})", s.body)
        self.types = {n: t for n, t in self.types.items() if n in kind or n in self.hoisted}

    def counted(self, name: str, call: ast.Call) -> str:
        """Return the head of a loop over a range."""
        bounds = [self.number(a) for a in call.args]
        start, stop = ("0", bounds[0]) if len(bounds) == 1 else bounds[:2]
        step = ast.literal_eval(call.args[2]) if len(bounds) == 3 and _constant(call.args[2]) else 1
        if (len(bounds) == 3 and not _constant(call.args[2])) or not step:
            raise Untranslatable("a step that changes")
        sign, by = ("<", "+") if step > 0 else (">", "-")
        move = f"{name}{by}{by}" if abs(step) == 1 else f"{name} {by}= {abs(step)}"
        return f"for (int {name} = {start}; {name} {sign} {stop}; {move})"

    # Expressions

    def number(self, node: ast.expr) -> str:
        java, kind = self.expression(node)
        if kind == ARRAY:
            raise Untranslatable("an array where a number stands")
        return f"({java} ? 1 : 0)" if kind == BOOL else java

    def array(self, node: ast.expr) -> str:
        java, kind = self.expression(node)
        if kind != ARRAY:
            raise Untranslatable("a number where an array stands")
        return java

    def truth(self, node: ast.expr) -> str:
        if isinstance(node, ast.BoolOp):
            return f" {'&&' if isinstance(node.op, ast.And) else '||'} ".join(f"({self.truth(v)})" for v in node.values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"!({self.truth(node.operand)})"
        java, kind = self.expression(node)
        return java if kind == BOOL else f"{java}.length > 0" if kind == ARRAY else f"{java} != 0"

    def expression(self, node: ast.expr) -> tuple[str, str]:
        """Return Java and its type."""
        match node:
            case ast.Name(id=name) if name in self.types:
                return name, self.types[name]
            case ast.Constant(value=bool(value)):
                return str(value).lower(), BOOL
            case ast.Constant(value=int(value)):
                return str(value), INT
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-({self.number(operand)})" if not _constant(operand) else f"-{self.number(operand)}", INT
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
                return self.truth(node), BOOL
            case ast.BinOp(left=ast.List(elts=[ast.Constant(value=0)]), op=ast.Mult(), right=size):
                return f"new int[{self.number(size)}]", ARRAY
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(op, self.number(left), self.number(right)), INT
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self.number(s) for s in (left, *others)]
                if any(type(op) not in COMPARED for op in ops):
                    raise Untranslatable("a comparison")
                pairs = zip(sides, ops, sides[1:], strict=False)
                return " && ".join(f"{a} {COMPARED[type(op)]} {b}" for a, op, b in pairs), BOOL
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self.truth(test)} ? {self.number(body)} : {self.number(orelse)})", INT
            case ast.List(elts=elts) | ast.Tuple(elts=elts) if elts:
                return f"new int[] {{{', '.join(self.number(e) for e in elts)}}}", ARRAY
            case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=None)):
                return self.part(self.array(value), lower, upper), ARRAY
            case ast.Subscript(value=value, slice=at):
                array = self.array(value)
                if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.USub):
                    return f"{array}[{array}.length - {self.number(at.operand)}]", INT
                if _may_be_negative(at, array in self.literal):
                    raise Untranslatable("an index that may be negative")
                return f"{array}[{_bare(self.number(at))}]", INT
            case ast.Call():
                return self.call(node)
        raise Untranslatable(type(node).__name__)

    def operation(self, op: ast.operator, left: str, right: str) -> str:
        if type(op) in FLOORED:
            return f"{FLOORED[type(op)]}({left}, {right})"
        if type(op) not in BINARY:
            raise Untranslatable(type(op).__name__)
        return f"({left} {BINARY[type(op)]} {right})"

    def part(self, array: str, lower: ast.expr | None, upper: ast.expr | None) -> str:
        if lower is None and upper is None:
            return f"{array}.clone()"
        first = "0" if lower is None else self.end(array, lower)
        return f"Arrays.copyOfRange({array}, {first}, {f'{array}.length' if upper is None else self.end(array, upper)})"

    def end(self, array: str, node: ast.expr) -> str:
        """Return one end of a slice, which Python counts from the back if it is negative, and cuts at the list's."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return f"Math.max({array}.length - {self.number(node.operand)}, 0)"
        return f"Math.min({self.number(node)}, {array}.length)"

    def call(self, node: ast.Call) -> tuple[str, str]:
        name, args = _name(node.func), node.args
        if node.keywords or not name:
            raise Untranslatable("a call")
        if name in self.known:
            kinds = self.known[name].values()
            given = [self.array(a) if kind == ARRAY else self.number(a) for a, kind in zip(args, kinds, strict=True)]
            return f"{name}({', '.join(given)})", INT
        match name, args:
            case "len", [one]:
                return f"{self.array(one)}.length", INT
            case "abs", [one]:
                return f"Math.abs({self.number(one)})", INT
            case (("max" | "min"), [first, second]):
                return f"Math.{name}({self.number(first)}, {self.number(second)})", INT
            case (("max" | "min"), [one]):
                return f"Arrays.stream({self.array(one)}).{name}().getAsInt()", INT
            case "sum", [one]:
                return f"Arrays.stream({self.array(one)}).sum()", INT
            case "list", [one]:
                return f"{self.array(one)}.clone()", ARRAY
            case "int", [ast.BinOp(left=left, op=ast.Div(), right=right)]:  # int() cuts towards zero, as Java divides
                return f"({self.number(left)} / {self.number(right)})", INT
        raise Untranslatable(f"a call of {name}")


def _may_be_negative(at: ast.expr, literal: bool) -> bool:
    """Return True for an index that in Python may count from the back.

    One less than an index is taken as safe, but for arrays of which the elements are written out: loops begin at 1 there.
    """
    if not isinstance(at, ast.BinOp) or not isinstance(at.op, ast.Sub):
        return False
    if isinstance(at.right, ast.Constant):
        return literal or at.right.value != 1
    return not any(isinstance(n, ast.Call) and _name(n.func) == "len" for n in ast.walk(at.left))


def _constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


def _bare(java: str) -> str:
    """Return an expression without the parentheses around the whole of it."""
    depth = 0
    for i, c in enumerate(java):
        depth += (c == "(") - (c == ")")
        if not depth:
            return java[1:-1] if java.startswith("(") and i == len(java) - 1 else java
    return java


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Return True if a block never goes on to what follows it."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.While) and isinstance(last.test, ast.Constant):
        return not any(isinstance(n, ast.Break) for n in ast.walk(last))
    return isinstance(last, ast.Return)
