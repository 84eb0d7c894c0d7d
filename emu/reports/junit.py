"""A check as JUnit: a suite a scenario, a case a cell; new is a failure, undecided is skipped."""

from itertools import groupby
from xml.etree import ElementTree as ET

from emu.reports.check import CheckReport
from emu.running.check import Change


def junit(report: CheckReport) -> bytes:
    """Return the XML."""
    root = ET.Element("testsuites", name=f"emu check {report.check.revision} --against {report.check.base}")
    for scenario, cells in groupby(report.check.compared, key=lambda one: one.cell.scenario):
        suite = ET.SubElement(root, "testsuite", name=scenario)
        for compared in cells:
            case = ET.SubElement(suite, "testcase", classname=scenario, name=str(compared.cell))
            for one in compared.differences():
                if one.is_bad:
                    ET.SubElement(case, "failure", message=one.change.value).text = report.sentence(one)
                elif one.change is Change.UNDECIDED:
                    ET.SubElement(case, "skipped", message=report.sentence(one))
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(sum(case.find("failure") is not None for case in suite)))
        suite.set("skipped", str(sum(case.find("skipped") is not None for case in suite)))
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"
