"""HAProxy's answers, read."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import haproxy, server_state

STAT = """\
# pxname,svname,scur,status,weight,check_status,check_code,last_chk,addr
mcp,katago-1,3,UP,100,L7OK,200,,10.0.0.1:8080
mcp,katago-2,0,DOWN,100,L4CON,0,Connection refused,10.0.0.2:8080
mcp,katago-3,1,UP,0,L7OK,200,,10.0.0.3:8080
mcp,katago-4,0,MAINT,100,,,,10.0.0.4:8080
mcp,katago-5,0,DOWN,100,* L7STS,503,,10.0.0.5:8080
mcp,BACKEND,4,UP,200,,,,
other,x,0,UP,1,,,,
"""


def test_servers_that_get_no_requests_are_named_with_the_reason() -> None:
    states = server_state.parsed(STAT).values()
    assert [state.name for state in states if state.is_up] == ["katago-1"]
    assert server_state.down_sentences(states) == [
        "katago-2 (10.0.0.2:8080) is DOWN: the connection was refused or failed, Connection refused",
        "katago-3 (10.0.0.3:8080) is out of rotation",
        "katago-4 (10.0.0.4:8080) is out of rotation",
        "katago-5 (10.0.0.5:8080) is DOWN: /ready reports that the server is not ready, HTTP status 503",
    ]


def test_errors_of_haproxy_are_translated_to_line_and_value() -> None:
    text = "global\n  maxconn many\n"
    output = (
        "[NOTICE]   (7) : haproxy version is 2.6.12-1+deb12u4\n"
        "[ALERT]    (7) : config : parsing [/tmp/x/haproxy.cfg:2] : 'maxconn' : invalid value\n"
        "[ALERT]    (7) : config : [/tmp/x/haproxy.cfg:9] : unexpected\n"
        "[WARNING]  (7) : config : something without a place\n"
        "[ALERT]    (7) : config : Error(s) found in configuration file : /tmp/x/haproxy.cfg\n"
        "[ALERT]    (7) : config : Fatal errors found in configuration.\n"
    )
    assert haproxy.translated(output, text) == [
        "line 2, `maxconn many`: 'maxconn' : invalid value",
        "line 9, ``: unexpected",
        "something without a place",
    ]


def test_accepted_configuration_has_no_problems() -> None:
    assert haproxy.translated("Configuration file is valid\n", "global\n") == []
