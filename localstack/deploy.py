"""Deploys a packaged template: the step of `cargo local` that speaks to CloudFormation, S3 and IAM.

Python because the virtual environment is there anyway, and the AWS SDK for Rust would have to compile two more
large crates for it. The boundary is JSON: one request on standard input, one event per line on standard output.
src/deploy.rs has the types.

Request:  endpoint, region, credentials {access_key_id, secret_access_key, session_token?}, make_deployer (bool),
          stack_name, template (text), parameters {name: value}, bucket, artifacts [{key, executable}],
          deadline_seconds
Events:   {"event": "progress", "text"}
          {"event": "done", "outputs": {name: value}, "credentials": {...}}
          {"event": "failed", "text"}
"""

import json
import sys
import time
import zipfile
from io import BytesIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

POLL_SECONDS = 0.2
CALL_TIMEOUT_SECONDS = 60
DEPLOYER = "poste-deployer"
TEMPLATE = "template.yaml"
UNCHANGED = "No updates are to be performed"


class Failed(Exception):
    """The deployment failed; the text says why, for people."""


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def main():
    request = json.load(sys.stdin)
    try:
        credentials = request["credentials"]
        if request["make_deployer"]:
            credentials = make_deployer(client_factory(request, credentials))
        clients = client_factory(request, credentials)
        upload(clients("s3"), request)
        outputs = deploy(clients("cloudformation"), request)
    except Failed as failure:
        tell("failed", text=str(failure))
        return 1
    except (BotoCoreError, ClientError) as error:
        tell("failed", text=f"{type(error).__name__}: {error}")
        return 1
    tell("done", outputs=outputs, credentials=credentials)
    return 0


def client_factory(request, credentials):
    """Makes clients of the request's endpoint, with bounded calls."""
    config = Config(
        connect_timeout=CALL_TIMEOUT_SECONDS,
        read_timeout=CALL_TIMEOUT_SECONDS,
        retries={"max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": "path"},
        # A proxy of the user's environment has no business with the local stack.
        proxies={},
    )
    session = boto3.session.Session(
        aws_access_key_id=credentials["access_key_id"],
        aws_secret_access_key=credentials["secret_access_key"],
        aws_session_token=credentials.get("session_token"),
        region_name=request["region"],
    )
    return lambda service: session.client(service, endpoint_url=request["endpoint"], config=config)


def make_deployer(clients):
    """Makes a user of our own and gives its key: the emulator checks signatures of users, not of its root key."""
    iam = clients("iam")
    try:
        iam.create_user(UserName=DEPLOYER)
    except iam.exceptions.EntityAlreadyExistsException:
        # Of an earlier deployment to an emulator that runs on: its keys are nobody's any more.
        for key in iam.list_access_keys(UserName=DEPLOYER)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=DEPLOYER, AccessKeyId=key["AccessKeyId"])
    iam.put_user_policy(
        UserName=DEPLOYER,
        PolicyName="everything",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        ),
    )
    key = iam.create_access_key(UserName=DEPLOYER)["AccessKey"]
    return {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}


def upload(s3, request):
    """Uploads each function as a zip file, unless its content is there already (the key names the content), and the
    template, which is too large to be a part of a request."""
    bucket = request["bucket"]
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        s3.create_bucket(Bucket=bucket)
    there = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}
    for artifact in request["artifacts"]:
        if artifact["key"] not in there:
            s3.put_object(Bucket=bucket, Key=artifact["key"], Body=zip_function(artifact["executable"]))
    s3.put_object(Bucket=bucket, Key=TEMPLATE, Body=request["template"].encode())


def zip_function(executable):
    """A zip file with the one entry `bootstrap`. Stored, not compressed: it only travels over loopback."""
    entry = zipfile.ZipInfo("bootstrap", date_time=(2020, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, so that the permissions count.
    entry.external_attr = 0o100755 << 16
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive, open(executable, "rb") as file:
        archive.writestr(entry, file.read())
    return content.getvalue()


def deploy(cloudformation, request):
    """Creates or updates the stack, waits for it, and gives its outputs."""
    name = request["stack_name"]
    arguments = {
        "StackName": name,
        "TemplateURL": f"{request['endpoint']}/{request['bucket']}/{TEMPLATE}",
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in request["parameters"].items()
        ],
        "Capabilities": ["CAPABILITY_IAM"],
    }
    before = describe(cloudformation, name)
    if before is not None and before["StackStatus"] == "ROLLBACK_COMPLETE":
        # A stack whose creation failed can only be deleted.
        cloudformation.delete_stack(StackName=name)
        wait(cloudformation, name, request["deadline_seconds"])
        before = None
    seen = event_ids(cloudformation, name) if before is not None else set()
    try:
        if before is None:
            stack_id = cloudformation.create_stack(**arguments)["StackId"]
        else:
            stack_id = cloudformation.update_stack(**arguments)["StackId"]
    except ClientError as error:
        if UNCHANGED not in str(error):
            raise
        return outputs_of(before)
    stack = wait(cloudformation, stack_id, request["deadline_seconds"])
    if stack is None or stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failed(reasons(cloudformation, stack_id, stack, seen))
    return outputs_of(stack)


def describe(cloudformation, name):
    try:
        return cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def wait(cloudformation, name, deadline_seconds):
    """Waits until nothing is in progress any more; gives the stack, or None when it is gone."""
    deadline = time.monotonic() + deadline_seconds
    told = 0
    while True:
        stack = describe(cloudformation, name)
        if stack is None or not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        if time.monotonic() > deadline:
            raise Failed(f"the stack is still {stack['StackStatus']} after {deadline_seconds} s")
        done = count_done(cloudformation, name)
        if done != told:
            told = done
            tell("progress", text=f"{done} resources")
        time.sleep(POLL_SECONDS)


def events(cloudformation, name):
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=name):
        yield from page["StackEvents"]


def event_ids(cloudformation, name):
    return {event["EventId"] for event in events(cloudformation, name)}


def count_done(cloudformation, name):
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return sum(1 for resource in resources if resource["ResourceStatus"].endswith("_COMPLETE"))


def reasons(cloudformation, name, stack, seen):
    """What failed and why, the first failure first."""
    status = "gone" if stack is None else stack["StackStatus"]
    lines = [f"the stack is {status}"]
    if stack is not None and stack.get("StackStatusReason"):
        lines.append(f"  {stack['StackStatusReason']}")
    failed = [
        event
        for event in events(cloudformation, name)
        if event["EventId"] not in seen and event["ResourceStatus"].endswith("_FAILED")
    ]
    for event in reversed(failed):
        reason = event.get("ResourceStatusReason", "no reason given")
        lines.append(f"  {event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
    return "\n".join(lines)


def outputs_of(stack):
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


if __name__ == "__main__":
    sys.exit(main())
